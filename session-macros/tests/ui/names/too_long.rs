use session_runtime::Session;

#[derive(Session)]
#[session(prefix = "a_shop_that_sells_a_great_many_things")]
struct Shop {
    the_goods_that_the_visitor_of_the_shop_has_put_into_the_cart_so_far: u32,
}

fn main() {}
