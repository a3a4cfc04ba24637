use session_runtime::Session;

#[derive(Session)]
#[session(with = session_runtime::base64)]
struct Shop {
    #[session(with)]
    picture: Vec<u8>,
    #[session(with = "session_runtime::base64")]
    thumbnail: Vec<u8>,
}

fn main() {}
