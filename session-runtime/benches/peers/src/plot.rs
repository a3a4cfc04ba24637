//! Draws the cases: `docs/performance.svg`.

use std::fmt::Write;
use std::fs;

use crate::apps::ALL;
use crate::measure::Row;

const COLOURS: [&str; 3] = ["#2a6f97", "#b0b0b0", "#d9a566"];
const LEFT: f64 = 290.0;
const WIDTH: f64 = 560.0;
const BAR: f64 = 9.0;
const GAP: f64 = 12.0;
const TOP: f64 = 50.0;

/// Microseconds at the left end, and powers of ten from there to the right.
const LEAST: f64 = 0.1;
const DECADES: i32 = 4;

pub(crate) fn draw(rows: &[Row]) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/performance.svg");
    fs::write(path, svg(rows)).expect("the docs' folder");
}

/// Returns where so many microseconds are.
fn x(micros: f64) -> f64 {
    let decades = (micros.max(LEAST) / LEAST).log10();
    LEFT + WIDTH * decades / f64::from(DECADES)
}

fn svg(rows: &[Row]) -> String {
    let group = BAR * COLOURS.len() as f64 + GAP;
    let bottom = TOP + group * rows.len() as f64;
    let (width, height) = (LEFT + WIDTH + 30.0, bottom + 30.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (place, (name, colour)) in ALL[1..].iter().zip(COLOURS).enumerate() {
        let left = LEFT + 150.0 * place as f64;
        put(
            &mut svg,
            &format!("<rect x=\"{left}\" y=\"8\" width=\"10\" height=\"10\" fill=\"{colour}\"/>"),
        );
        put(
            &mut svg,
            &format!("<text x=\"{}\" y=\"17\">{name}</text>", left + 15.0),
        );
    }
    for decade in 0..=DECADES {
        let micros = LEAST * 10_f64.powi(decade);
        let at = x(micros);
        put(
            &mut svg,
            &format!(
                "<line x1=\"{at}\" x2=\"{at}\" y1=\"{}\" y2=\"{bottom}\" stroke=\"#ddd\"/>",
                TOP - 8.0
            ),
        );
        put(
            &mut svg,
            &format!(
                "<text x=\"{at}\" y=\"{}\" text-anchor=\"middle\">{micros} µs</text>",
                TOP - 12.0
            ),
        );
    }
    for (row, top) in rows
        .iter()
        .zip((0..).map(|row| TOP + group * f64::from(row)))
    {
        let middle = top + group / 2.0 - 2.0;
        put(
            &mut svg,
            &format!(
                "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>",
                LEFT - 10.0,
                row.name
            ),
        );
        for (place, (name, colour)) in ALL[1..].iter().zip(COLOURS).enumerate() {
            let Some(figure) = row.figure(name) else {
                continue;
            };
            let (y, length) = (top + BAR * place as f64, x(figure.low) - LEFT);
            put(
                &mut svg,
                &format!(
                    "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"{}\" fill=\"{colour}\"/>",
                    BAR - 1.0
                ),
            );
        }
    }
    svg + "</svg>\n"
}

fn put(svg: &mut String, element: &str) {
    writeln!(svg, "{element}").expect("a string takes it");
}
