//! Amounts of money, exact.

use super::read::{Read, Reader};
use super::tree::Node;
use crate::units::{self, BadMoney};
use serde_json::{Value as Json, json};

/// Reads an amount of money. `what`: what it must be; `fine`: how exact it may be.
fn amount(
    node: &Node,
    cx: &mut Reader<'_>,
    what: &'static str,
    fine: &'static str,
    read: fn(&str) -> Result<u64, BadMoney>,
) -> Option<u64> {
    let wrong = match read(cx.text(node, what)?.trim()) {
        Ok(amount) => return Some(amount),
        Err(BadMoney::NotANumber) => what,
        Err(BadMoney::TooFine) => fine,
    };
    cx.wrong(node, wrong);
    None
}

/// A decimal number, in millionths.
#[derive(Clone, Copy, Debug)]
pub struct Money(pub u64);

impl Read for Money {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let fine = "exact to a millionth: at most six decimals";
        amount(node, cx, "an amount from 0 to 1000000000, like 0.25", fine, units::money).map(Self)
    }

    fn schema() -> Json {
        json!({ "type": "number", "minimum": 0, "maximum": 1_000_000_000 })
    }
}

/// The price of a unit, in pico-dollars.
#[derive(Clone, Copy, Debug)]
pub struct UnitPrice(pub u64);

impl Read for UnitPrice {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let fine = "exact to a millionth of a millionth: at most twelve decimals";
        amount(node, cx, "an amount from 0 to 1000, like 0.04", fine, units::unit_price).map(Self)
    }

    fn schema() -> Json {
        json!({ "type": "number", "minimum": 0, "maximum": 1_000 })
    }
}
