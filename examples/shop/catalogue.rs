//! What the shop sells.

use serde::{Deserialize, Serialize};

use crate::money::Price;

/// The name of a product, as it stands in addresses, forms and sessions. Whether there is such a product, [`find`]
/// tells.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Sku(String);

impl Sku {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// One thing to buy.
#[derive(Debug)]
pub(crate) struct Product {
    pub(crate) sku: &'static str,
    pub(crate) name: &'static str,
    /// One line, for lists.
    pub(crate) line: &'static str,
    /// A few sentences, for its own page.
    pub(crate) story: &'static str,
    pub(crate) details: [(&'static str, &'static str); 3],
    pub(crate) price: Price,
    /// The picture's background, as the stylesheet names it.
    pub(crate) tint: &'static str,
    /// What the picture shows, for those who cannot see it.
    pub(crate) picture: &'static str,
}

#[cfg(test)]
impl Product {
    pub(crate) fn sku(&self) -> Sku {
        Sku(self.sku.to_owned())
    }
}

/// The product of that name.
pub(crate) fn find(sku: &Sku) -> Option<&'static Product> {
    PRODUCTS.iter().find(|product| product.sku == sku.0)
}

/// All there is, in the order of the shelf.
pub(crate) static PRODUCTS: [Product; 9] = [
    Product {
        sku: "heron-teapot",
        name: "Heron teapot",
        line: "Pours without a drip, and knows it.",
        story: "A long neck and a patient stance. Thrown in two parts and joined while the clay was still soft, \
                so the spout sits a little differently on every one of them.",
        details: [
            ("Holds", "0.9 litres"),
            ("Made of", "Stoneware, celadon glaze"),
            ("Care", "Rinse, never scrub"),
        ],
        price: Price::euros(64),
        tint: "sage",
        picture: "A round green teapot with a long spout and a looped handle",
    },
    Product {
        sku: "tide-mug",
        name: "Tide mug",
        line: "Dipped once, so no two lines agree.",
        story: "The glaze line is where the potter's hand happened to stop that morning. Thick enough to keep \
                coffee warm through one phone call, thin enough to drink from with pleasure.",
        details: [
            ("Holds", "0.3 litres"),
            ("Made of", "Stoneware, blue dip"),
            ("Care", "Dishwasher safe"),
        ],
        price: Price::euros(18),
        tint: "sky",
        picture: "A cream mug whose lower half is dipped in blue glaze",
    },
    Product {
        sku: "harbour-lamp",
        name: "Harbour lamp",
        line: "A warm pool of light for the end of a table.",
        story: "Modelled on the lamps that hang over the net lofts: one shade, one switch, no opinion about \
                your furniture. The cable is cloth-bound and long enough for once.",
        details: [
            ("Height", "42 cm"),
            ("Made of", "Spun steel, beech foot"),
            ("Bulb", "E27, not included"),
        ],
        price: Price::euros(89),
        tint: "dusk",
        picture: "A table lamp with a red dome, throwing a soft cone of light",
    },
    Product {
        sku: "samphire-vase",
        name: "Samphire vase",
        line: "Looks finished with a single stem in it.",
        story: "Narrow at the neck, so that three twigs from the hedge stand up straight and look deliberate. \
                Glazed inside, left raw outside, where it will take on the colour of your windowsill.",
        details: [
            ("Height", "24 cm"),
            ("Made of", "Red earthenware"),
            ("Care", "Wipe with a damp cloth"),
        ],
        price: Price::euros(42),
        tint: "sand",
        picture: "A terracotta vase with a narrow neck and three green stems",
    },
    Product {
        sku: "mudflat-bowl",
        name: "Mudflat bowl",
        line: "For soup, for keys, for both in turn.",
        story: "Wide, low and heavy in the hand. The speckles are iron in the clay, which comes up through the \
                glaze in the kiln as worms' casts do through wet sand.",
        details: [
            ("Across", "21 cm"),
            ("Made of", "Speckled stoneware"),
            ("Care", "Dishwasher safe"),
        ],
        price: Price::euros(24),
        tint: "blush",
        picture: "A wide speckled bowl on a small foot",
    },
    Product {
        sku: "estuary-carafe",
        name: "Estuary carafe",
        line: "Water, seen properly.",
        story: "Blown by two people who have worked side by side for thirty years and do not talk while they do. \
                The stopper is a cork ball: it rolls, but not far.",
        details: [
            ("Holds", "1.1 litres"),
            ("Made of", "Recycled glass, cork"),
            ("Care", "By hand, warm water"),
        ],
        price: Price::euros(38),
        tint: "sage",
        picture: "A glass carafe half full of water, closed with a ball of cork",
    },
    Product {
        sku: "beacon-candlestick",
        name: "Beacon candlestick",
        line: "Steady in a draught.",
        story: "Cast in brass from a pattern turned on a foot lathe. It is much heavier than it looks, as the \
                postman will tell you, and it gets better looking with every thumbprint.",
        details: [
            ("Height", "16 cm"),
            ("Made of", "Cast brass"),
            ("Candle", "22 mm, one is included"),
        ],
        price: Price::euros(31),
        tint: "dusk",
        picture: "A turned brass candlestick with a lit candle",
    },
    Product {
        sku: "horizon-plate",
        name: "Horizon plate",
        line: "Half sea, half sky, room for toast.",
        story: "Two glazes meet in the middle and run into each other a little, never twice in the same way. Sold \
                singly, because we think a table should not match.",
        details: [
            ("Across", "26 cm"),
            ("Made of", "Porcelain, two glazes"),
            ("Care", "Dishwasher safe"),
        ],
        price: Price::euros(22),
        tint: "sky",
        picture: "A round plate, its upper half pale and its lower half deep blue",
    },
    Product {
        sku: "driftwood-board",
        name: "Driftwood board",
        line: "Bread's best side.",
        story: "Oak from a breakwater that had done its sixty years. The bolt hole is now a place for your thumb. \
                Oiled three times here, and once a year by you.",
        details: [
            ("Size", "38 by 20 cm"),
            ("Made of", "Reclaimed oak"),
            ("Care", "Oil once a year"),
        ],
        price: Price::euros(29),
        tint: "blush",
        picture: "An oak board with a round hole in its handle, and a loaf on it",
    },
];
