//! From values to places on an axis, and the marks on it.
//! Three kinds: even, by powers of ten, and by nines, which gives each nine of a percentile the same room.

/// How values are laid out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// Evenly, from 0.
    Even,
    /// By powers of ten.
    Logarithmic,
    /// Percentiles: 90, 99, 99.9, 99.99 at equal distances.
    Nines,
}

/// An axis from `low` to `high`.
#[derive(Debug, Clone)]
pub(crate) struct Scale {
    kind: Kind,
    low: f64,
    high: f64,
    /// Values that are marked.
    pub(crate) marks: Vec<f64>,
}

/// Beyond this percentile one run has too few records to tell.
pub(crate) const PERCENTILE_MAX: f64 = 99.99;

impl Scale {
    /// An axis that holds these values.
    pub(crate) fn over(kind: Kind, values: impl IntoIterator<Item = f64>) -> Self {
        let is_usable = |value: &f64| value.is_finite() && (kind != Kind::Logarithmic || 0.0 < *value);
        let (mut low, mut high) = (f64::MAX, f64::MIN);
        for value in values.into_iter().filter(is_usable) {
            (low, high) = (low.min(value), high.max(value));
        }
        if high < low {
            (low, high) = (1.0, 10.0);
        }
        match kind {
            Kind::Even => Self::even(high),
            Kind::Logarithmic => Self::logarithmic(low, high),
            Kind::Nines => Self {
                kind,
                low: 0.0,
                high: PERCENTILE_MAX,
                marks: vec![50.0, 90.0, 99.0, 99.9, PERCENTILE_MAX],
            },
        }
    }

    fn even(high: f64) -> Self {
        let high = if 0.0 < high { high } else { 1.0 };
        let rough = high / 4.0;
        let power = 10_f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
        let step = steps
            .into_iter()
            .find(|step| rough <= step * power)
            .unwrap_or(10.0)
            * power;
        let mut marks = vec![0.0];
        while marks.last().is_some_and(|last| last + step * 1e-6 < high) {
            marks.push(marks.last().unwrap_or(&0.0) + step);
        }
        Self {
            kind: Kind::Even,
            low: 0.0,
            high: marks.last().copied().unwrap_or(high),
            marks,
        }
    }

    /// The same axis, ending where the values do.
    pub(crate) fn cut_at(mut self, high: f64) -> Self {
        self.high = high;
        self.marks.retain(|mark| *mark <= high);
        self
    }

    fn logarithmic(low: f64, high: f64) -> Self {
        let (from, to) = (low.log10().floor(), (high * 1.02).log10());
        let least = [5.0, 2.0, 1.0].map(|times| times * 10_f64.powf(from));
        let least = least.into_iter().find(|least| *least <= low).unwrap_or(low);
        let mut marks = Vec::new();
        let mut power = from;
        while power <= to {
            marks.push(10_f64.powf(power));
            power += 1.0;
        }
        // With few powers there is room for what lies between them.
        if marks.len() <= 2 {
            let between = marks
                .iter()
                .flat_map(|mark| [1.0, 2.0, 5.0].map(|times| times * mark));
            marks = between.filter(|mark| mark.log10() <= to).collect();
        }
        marks.retain(|mark| least <= *mark);
        Self {
            kind: Kind::Logarithmic,
            low: least,
            high: 10_f64.powf(to).max(least * 2.0),
            marks,
        }
    }

    /// The place of a value, from 0 to 1.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let laid = |value: f64| match self.kind {
            Kind::Even => value,
            Kind::Logarithmic => value.max(self.low).log10(),
            Kind::Nines => -(1.0 - value.clamp(0.0, PERCENTILE_MAX) / 100.0).log10(),
        };
        let (low, high) = (laid(self.low), laid(self.high));
        ((laid(value) - low) / (high - low)).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_nine_has_the_same_room() {
        let scale = Scale::over(Kind::Nines, []);
        let places: Vec<f64> = [0.0, 90.0, 99.0, 99.9, 99.99, 100.0]
            .map(|value| (scale.place(value) * 100.0).round())
            .to_vec();
        assert_eq!(places, [0.0, 25.0, 50.0, 75.0, 100.0, 100.0]);
    }

    #[test]
    fn marks_are_round_and_hold_all_values() {
        let even = |high| Scale::over(Kind::Even, [high]).marks;
        assert_eq!(even(1000.0), [0.0, 250.0, 500.0, 750.0, 1000.0]);
        assert_eq!(even(3.1), [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(even(0.0), [0.0, 0.25, 0.5, 0.75, 1.0]);
        let logarithmic = |low, high| Scale::over(Kind::Logarithmic, [low, high]).marks;
        assert_eq!(logarithmic(12.0, 9000.0), [10.0, 100.0, 1000.0]);
        assert_eq!(logarithmic(12.0, 70.0), [10.0, 20.0, 50.0]);
        assert_eq!(logarithmic(70.0, 9000.0), [100.0, 1000.0]);
        let seconds = Scale::over(Kind::Even, [11.0]).cut_at(11.0);
        assert_eq!(
            (seconds.marks.as_slice(), seconds.place(11.0).round()),
            (&[0.0, 5.0, 10.0][..], 1.0)
        );
        let scale = Scale::over(Kind::Logarithmic, [12.0, 9000.0]);
        assert!(scale.place(12.0) > 0.0 && scale.place(9000.0) < 1.0);
    }
}
