//! What is looked at in a run: rates, latencies, costs.
//! Each has a unit and a direction; a run that did not measure it has none.

use crate::comparison::Better;
use crate::load::result::{Latency, RunResult};
use crate::report::{count, figure};

/// How a figure is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// 10⁶ bytes a second.
    MegabytesPerSecond,
    /// A second.
    PerSecond,
    /// Microseconds, written as what fits.
    Microseconds,
    /// CPU seconds for each 10⁹ bytes.
    CpuPerGigabyte,
    /// Bytes, written as what fits.
    Bytes,
}

impl Unit {
    /// The figure with its unit.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        match self {
            Self::MegabytesPerSecond => format!("{} MB/s", figure(value)),
            Self::PerSecond if value < 10_000.0 => format!("{}/s", figure(value)),
            Self::PerSecond if value < 1e6 => format!("{} k/s", figure(value / 1e3)),
            Self::PerSecond => format!("{} M/s", figure(value / 1e6)),
            Self::Microseconds if value < 1e3 => format!("{} µs", figure(value)),
            Self::Microseconds if value < 1e6 => format!("{} ms", figure(value / 1e3)),
            Self::Microseconds => format!("{} s", figure(value / 1e6)),
            Self::CpuPerGigabyte => format!("{} s/GB", figure(value)),
            Self::Bytes => {
                let mebibytes = value / count(1 << 20);
                if mebibytes < 1024.0 {
                    format!("{} MiB", figure(mebibytes))
                } else {
                    format!("{} GiB", figure(mebibytes / 1024.0))
                }
            }
        }
    }
}

/// Something that a run may have measured.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    /// Its name in tables.
    pub name: &'static str,
    /// How it is written.
    pub unit: Unit,
    /// Which way is good.
    pub better: Better,
    of: fn(&RunResult) -> Option<f64>,
}

impl Quantity {
    /// The figure of a run.
    #[must_use]
    pub fn of(&self, run: &RunResult) -> Option<f64> {
        (self.of)(run).filter(|value| value.is_finite())
    }
}

/// The latency that counts in a run: end to end where records were followed, else of producing, else of fetching.
#[must_use]
pub fn latency_of(run: &RunResult) -> Option<&Latency> {
    let of_flow = |flow: &'_ Option<crate::load::result::Flow>| {
        flow.as_ref().is_some_and(|flow| flow.latency.is_some())
    };
    if run.end_to_end.is_some() {
        return run.end_to_end.as_ref();
    }
    let flow = if of_flow(&run.produced) {
        &run.produced
    } else {
        &run.fetched
    };
    flow.as_ref()?.latency.as_ref()
}

/// What that latency is of, in words.
#[must_use]
pub fn latency_name(run: &RunResult) -> &'static str {
    let has =
        |flow: &Option<crate::load::result::Flow>| flow.as_ref().is_some_and(|flow| flow.latency.is_some());
    if run.end_to_end.is_some() {
        "end to end"
    } else if has(&run.produced) {
        "from sending to acknowledgement"
    } else {
        "from request to answer"
    }
}

const fn quantity(
    name: &'static str,
    unit: Unit,
    better: Better,
    of: fn(&RunResult) -> Option<f64>,
) -> Quantity {
    Quantity {
        name,
        unit,
        better,
        of,
    }
}

fn bytes(value: Option<u64>) -> Option<f64> {
    value.map(count)
}

/// All of them, in the order of tables.
pub const QUANTITIES: [Quantity; 16] = [
    quantity("produced", Unit::MegabytesPerSecond, Better::More, |run| {
        Some(run.produced.as_ref()?.mb_per_s)
    }),
    quantity("fetched", Unit::MegabytesPerSecond, Better::More, |run| {
        Some(run.fetched.as_ref()?.mb_per_s)
    }),
    quantity("knee", Unit::PerSecond, Better::More, |run| {
        run.knee.as_ref()?.records_per_s
    }),
    quantity("p50", Unit::Microseconds, Better::Less, |run| {
        Some(latency_of(run)?.p50_us)
    }),
    quantity("p99", Unit::Microseconds, Better::Less, |run| {
        Some(latency_of(run)?.p99_us)
    }),
    quantity("p99.9", Unit::Microseconds, Better::Less, |run| {
        Some(latency_of(run)?.p999_us)
    }),
    quantity("p99.99", Unit::Microseconds, Better::Less, |run| {
        Some(latency_of(run)?.p9999_us)
    }),
    quantity("max", Unit::Microseconds, Better::Less, |run| {
        Some(latency_of(run)?.max_us)
    }),
    quantity("broker CPU", Unit::CpuPerGigabyte, Better::Less, |run| {
        run.cost.broker_cpu_s_per_gb
    }),
    quantity("own memory, largest", Unit::Bytes, Better::Less, |run| {
        bytes(run.cost.broker_anonymous_max_bytes)
    }),
    quantity("memory, largest", Unit::Bytes, Better::Less, |run| {
        bytes(run.cost.broker_rss_max_bytes)
    }),
    quantity("client CPU", Unit::CpuPerGigabyte, Better::Less, |run| {
        run.cost.client_cpu_s_per_gb
    }),
    quantity("records produced", Unit::PerSecond, Better::More, |run| {
        Some(run.produced.as_ref()?.records_per_s)
    }),
    quantity("records fetched", Unit::PerSecond, Better::More, |run| {
        Some(run.fetched.as_ref()?.records_per_s)
    }),
    quantity("produce requests", Unit::PerSecond, Better::More, |run| {
        Some(run.produced.as_ref()?.requests_per_s)
    }),
    quantity("own memory, at the end", Unit::Bytes, Better::Less, |run| {
        bytes(run.cost.broker_anonymous_after_bytes)
    }),
];

/// The one of that name.
///
/// # Panics
/// When there is none: names are written in the source.
#[must_use]
pub fn named(name: &str) -> &'static Quantity {
    static ALL: [Quantity; 16] = QUANTITIES;
    let found = ALL.iter().find(|quantity| quantity.name == name);
    found.expect("a quantity of that name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_in_what_fits() {
        for (unit, value, expected) in [
            (Unit::Microseconds, 12.0, "12.0 µs"),
            (Unit::Microseconds, 12_000.0, "12.0 ms"),
            (Unit::Microseconds, 1_200_000.0, "1.20 s"),
            (Unit::PerSecond, 5000.0, "5000/s"),
            (Unit::PerSecond, 250_000.0, "250 k/s"),
            (Unit::PerSecond, 2_500_000.0, "2.50 M/s"),
            (Unit::Bytes, 10_485_760.0, "10.0 MiB"),
            (Unit::Bytes, 2_147_483_648.0, "2.00 GiB"),
            (Unit::CpuPerGigabyte, 0.25, "0.250 s/GB"),
            (Unit::MegabytesPerSecond, 1234.0, "1234 MB/s"),
        ] {
            assert_eq!(unit.show(value), expected);
        }
    }
}
