use session_runtime::Session;

#[derive(Session)]
struct Shop {
    #[session(with = seconds)]
    visits: u32,
    #[session(with = half)]
    since: u32,
}

mod half {
    pub fn serialize<S: serde::Serializer>(value: &u32, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(*value)
    }
}

fn main() {}
