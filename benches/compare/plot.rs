//! The plot: a bar for each subject and piece of work, on a logarithmic scale of multiples of the floor.

use std::fmt::{self, Write};

use super::rounds::Rates;
use super::subjects::Subject;
use super::work::WORKS;

const COLOURS: [&str; 6] = ["#2f6f4f", "#7fb59a", "#9a9a9a", "#d4b24c", "#5b7db1", "#b1655b"];
/// Where the bars begin, how long the longest may be, and how thick one is.
const LEFT: f64 = 260.0;
const LENGTH: f64 = 600.0;
const TOP: f64 = 70.0;
const BAR: f64 = 8.0;
/// Between two pieces of work.
const GAP: f64 = 10.0;

/// An SVG document. The subject `unit` is the one whose speed is 1.
pub(crate) fn draw(
    subjects: &[Box<dyn Subject>],
    unit: usize,
    rates: &Rates,
) -> Result<String, fmt::Error> {
    let ratios: Vec<Vec<f64>> = (0..WORKS.len())
        .map(|work| (0..subjects.len()).map(|which| rates.ratio(work, which, unit)).collect())
        .collect();
    let all = || ratios.iter().flatten().map(|ratio| ratio.log10());
    let low = all().fold(-1.0, f64::min).floor();
    let high = all().fold(1.0, f64::max).ceil();
    let x = |ratio: f64| LEFT + (ratio.log10() - low) / (high - low) * LENGTH;
    let row = BAR * subjects.len() as f64 + GAP;
    let (width, bottom) = (LEFT + LENGTH + 60.0, TOP + row * WORKS.len() as f64);
    let mut svg = String::new();
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"15\">Operations a second, as multiples of the floor \
         (longer is faster)</text>",
        bottom + 30.0
    )?;
    for (which, subject) in subjects.iter().enumerate() {
        let at = LEFT + 120.0 * which as f64;
        writeln!(
            svg,
            "<rect x=\"{at}\" y=\"36\" width=\"12\" height=\"12\" fill=\"{}\"/>\
             <text x=\"{}\" y=\"46\">{}</text>",
            COLOURS[which % COLOURS.len()],
            at + 17.0,
            subject.name()
        )?;
    }
    for power in low as i32..=high as i32 {
        let (at, value) = (x(10_f64.powi(power)), 10_f64.powi(power));
        let colour = if power == 0 { "#333333" } else { "#dddddd" };
        writeln!(
            svg,
            "<line x1=\"{at:.1}\" y1=\"{}\" x2=\"{at:.1}\" y2=\"{bottom}\" stroke=\"{colour}\"/>\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{value}</text>",
            TOP - 6.0,
            bottom + 16.0
        )?;
    }
    for (number, work) in WORKS.iter().enumerate() {
        let top = TOP + row * number as f64;
        writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 10.0,
            top + row / 2.0,
            work.title()
        )?;
        for (which, ratio) in ratios[number].iter().enumerate() {
            writeln!(
                svg,
                "<rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{}\" fill=\"{}\"/>",
                top + BAR * which as f64,
                x(*ratio) - LEFT,
                BAR - 1.0,
                COLOURS[which % COLOURS.len()]
            )?;
        }
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}
