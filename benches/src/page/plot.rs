//! Lines over an axis, as SVG.
//! Each line has a colour and a pattern of its own: nobody has to tell colours apart.

use std::fmt::Write as _;

use super::scale::Scale;
use super::text::escape;

/// One line.
#[derive(Debug)]
pub(crate) struct Line {
    /// Its place in the legend, which gives its colour.
    pub(crate) number: usize,
    /// What it is of; shown where the pointer rests.
    pub(crate) name: String,
    /// Whether it stands for all runs of its subject; the others are drawn thin.
    pub(crate) is_bold: bool,
    /// From left to right.
    pub(crate) points: Vec<(f64, f64)>,
}

/// A plot.
#[derive(Debug)]
pub(crate) struct Plot {
    pub(crate) title: String,
    /// What a reader should know of it.
    pub(crate) note: String,
    pub(crate) across: Scale,
    pub(crate) show_across: fn(f64) -> String,
    pub(crate) up: Scale,
    pub(crate) show_up: fn(f64) -> String,
    /// Up to where, across, figures are not taken.
    pub(crate) shaded_until: Option<f64>,
    pub(crate) lines: Vec<Line>,
}

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;
/// How many colours the style has; after them patterns tell lines apart.
const COLOURS: usize = 8;
const PATTERNS: [&str; 4] = ["none", "7 4", "2 3", "10 3 2 3"];

fn look(number: usize) -> (usize, &'static str) {
    // The pattern changes with the colour: two lines that are near in colour differ in pattern.
    let pattern = PATTERNS
        .get((number + number / COLOURS) % PATTERNS.len())
        .unwrap_or(&"none");
    (number % COLOURS, pattern)
}

/// A piece of a subject's line, for the legend.
pub(crate) fn swatch(number: usize) -> String {
    let (colour, pattern) = look(number);
    format!(
        "<svg class=\"swatch\" viewBox=\"0 0 34 10\" aria-hidden=\"true\"><line class=\"c{colour}\" x1=\"1\" y1=\"5\" x2=\"33\" \
         y2=\"5\" stroke-dasharray=\"{pattern}\"/></svg>"
    )
}

impl Plot {
    /// The plot with its title, or nothing where there is nothing to draw.
    pub(crate) fn to_html(&self) -> String {
        if self.lines.iter().all(|line| line.points.len() < 2) {
            return String::new();
        }
        let mut svg = self.axes();
        // Bold lines are drawn last and lie above the others.
        for is_bold in [false, true] {
            for line in self.lines.iter().filter(|line| line.is_bold == is_bold) {
                svg += &self.line(line);
            }
        }
        let note = if self.note.is_empty() {
            String::new()
        } else {
            format!("<p class=\"note\">{}</p>", escape(&self.note))
        };
        let title = escape(&self.title);
        format!(
            "<figure><figcaption>{title}</figcaption>\n<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-label=\"{title}\">\n{svg}</svg>{note}</figure>\n"
        )
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + self.across.place(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.up.place(value) * (HEIGHT - TOP - BOTTOM)
    }

    fn axes(&self) -> String {
        let (left, right, top, bottom) = (LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM);
        let mut svg = String::new();
        if let Some(until) = self.shaded_until {
            let width = self.x(until) - left;
            writeln!(svg,
                "<rect class=\"shade\" x=\"{left}\" y=\"{top}\" width=\"{width:.1}\" height=\"{:.1}\"><title>warm-up</title></rect>",
                bottom - top
            ).ok();
        }
        for &mark in &self.up.marks {
            let (y, label) = (self.y(mark), escape(&(self.show_up)(mark)));
            writeln!(
                svg,
                "<line class=\"grid\" x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                left - 8.0,
                y + 4.0
            )
            .ok();
        }
        for &mark in &self.across.marks {
            let (x, label) = (self.x(mark), escape(&(self.show_across)(mark)));
            writeln!(
                svg,
                "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                bottom + 20.0
            )
            .ok();
        }
        svg
    }

    fn line(&self, line: &Line) -> String {
        let (colour, pattern) = look(line.number);
        let mut path = String::new();
        for &(across, up) in &line.points {
            write!(path, "{:.1},{:.1} ", self.x(across), self.y(up)).ok();
        }
        let weight = if line.is_bold { "bold" } else { "thin" };
        format!(
            "<polyline class=\"c{colour} {weight}\" stroke-dasharray=\"{pattern}\" points=\"{}\"><title>{}</title></polyline>\n",
            path.trim_end(),
            escape(&line.name)
        )
    }
}
