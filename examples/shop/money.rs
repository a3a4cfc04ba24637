//! Prices, in the minor units of a currency.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The currencies that prices are shown in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Currency {
    #[default]
    Eur,
    Gbp,
    Usd,
    Chf,
    Jpy,
}

impl Currency {
    pub(crate) const ALL: [Self; 5] = [Self::Eur, Self::Gbp, Self::Usd, Self::Chf, Self::Jpy];

    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Eur => "EUR",
            Self::Gbp => "GBP",
            Self::Usd => "USD",
            Self::Chf => "CHF",
            Self::Jpy => "JPY",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Eur => "euros",
            Self::Gbp => "pounds",
            Self::Usd => "US dollars",
            Self::Chf => "Swiss francs",
            Self::Jpy => "yen",
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Eur => "€",
            Self::Gbp => "£",
            Self::Usd => "$",
            Self::Chf => "CHF\u{a0}",
            Self::Jpy => "¥",
        }
    }

    /// Minor units for 10,000 euro cents. Examples, not anybody's rates.
    fn rate(self) -> u64 {
        match self {
            Self::Eur => 10_000,
            Self::Gbp => 8_650,
            Self::Usd => 10_800,
            Self::Chf => 9_450,
            Self::Jpy => 16_300,
        }
    }

    /// Returns how many minor units make one of it: the yen has none.
    fn minor_units(self) -> u64 {
        if self == Self::Jpy { 1 } else { 100 }
    }
}

/// What a thing costs, in euro cents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Price(pub(crate) u64);

impl Price {
    pub(crate) const fn euros(euros: u64) -> Self {
        Self(euros * 100)
    }

    /// Rounded to the minor unit, halves up.
    pub(crate) fn to(self, currency: Currency) -> Money {
        Money {
            minor: (self.0 * currency.rate() + 5_000) / 10_000,
            currency,
        }
    }
}

/// An amount in some currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Money {
    pub(crate) minor: u64,
    pub(crate) currency: Currency,
}

impl Money {
    pub(crate) fn times(self, quantity: u32) -> Self {
        Self {
            minor: self.minor.saturating_mul(u64::from(quantity)),
            ..self
        }
    }

    /// Both must be of one currency.
    pub(crate) fn plus(self, other: Self) -> Self {
        debug_assert_eq!(self.currency, other.currency);
        Self {
            minor: self.minor.saturating_add(other.minor),
            ..self
        }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.currency.minor_units();
        write!(f, "{}{}", self.currency.sign(), grouped(self.minor / units))?;
        if units > 1 {
            write!(f, ".{:02}", self.minor % units)?;
        }
        Ok(())
    }
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(cents: u64, currency: Currency) -> String {
        Price(cents).to(currency).to_string()
    }

    #[test]
    fn each_currency_shows_its_own_way() {
        assert_eq!(shown(2_400, Currency::Eur), "€24.00");
        assert_eq!(shown(2_405, Currency::Gbp), "£20.80");
        assert_eq!(shown(5, Currency::Usd), "$0.05");
        assert_eq!(shown(123_456_789, Currency::Chf), "CHF\u{a0}1,166,666.66");
        assert_eq!(shown(100_000, Currency::Jpy), "¥163,000");
    }

    #[test]
    fn a_sum_is_the_sum_of_what_was_shown() {
        let each = Price(333).to(Currency::Usd);
        assert_eq!(each.minor, 360);
        assert_eq!(each.times(3).plus(each).minor, 4 * 360);
    }
}
