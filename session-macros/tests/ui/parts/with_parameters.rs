use session_runtime::Merge;

#[derive(Merge, PartialEq)]
struct Line<Item> {
    item: Item,
}

#[derive(Merge, PartialEq)]
struct Named<'a, const N: usize>
where
    [u8; N]: Default,
{
    name: &'a [u8; N],
}

fn main() {}
