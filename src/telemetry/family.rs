//! A metric family whose series survive configuration reloads.
//!
//! Replaces `prometheus::MetricVec`, which identifies a series by a hash of the concatenated label values: ("a", "bc")
//! and ("ab", "c") would be one series. Here a series is looked up by its labels once and then used through its handle.

use parking_lot::Mutex;
use prometheus::core::Metric;
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{Counter, Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, Opts};
use std::collections::BTreeMap;

/// A metric type of a family.
pub trait Child: Metric {
    /// Its Prometheus type.
    const KIND: MetricType;

    /// Creates a metric. `buckets` applies to histograms.
    ///
    /// # Errors
    /// When a name is invalid, which constant names never are.
    fn make(options: Opts, buckets: &[f64]) -> prometheus::Result<Self>;
}

macro_rules! children {
    ($($kind:ty: $type:ident),+) => {
        $(impl Child for $kind {
            const KIND: MetricType = MetricType::$type;

            fn make(options: Opts, _buckets: &[f64]) -> prometheus::Result<Self> {
                Self::with_opts(options)
            }
        })+
    };
}
children!(IntCounter: COUNTER, Counter: COUNTER, IntGauge: GAUGE, Gauge: GAUGE);

impl Child for Histogram {
    const KIND: MetricType = MetricType::HISTOGRAM;

    fn make(options: Opts, buckets: &[f64]) -> prometheus::Result<Self> {
        Self::with_opts(HistogramOpts { common_opts: options, buckets: buckets.to_vec() })
    }
}

/// All series of one metric name.
pub struct Family<M> {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    buckets: Vec<f64>,
    series: Mutex<BTreeMap<Vec<Box<str>>, M>>,
    /// Returned when a series cannot be created; not exported.
    fallback: M,
}

impl<M: Child> Family<M> {
    /// A family without series.
    ///
    /// # Errors
    /// When the name is invalid.
    pub fn new(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> prometheus::Result<Self> {
        Self::with_buckets(name, help, labels, &[])
    }

    /// A family of histograms.
    ///
    /// # Errors
    /// When the name is invalid or the buckets are unsorted.
    pub fn with_buckets(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        buckets: &'static [f64],
    ) -> prometheus::Result<Self> {
        let fallback = M::make(Opts::new(name, help), buckets)?;
        Ok(Self { name, help, labels, buckets: buckets.to_vec(), series: Mutex::default(), fallback })
    }

    /// Appends the ascending `ladder` up to the first bucket that covers `largest`. Applies to series created later.
    pub fn extend_buckets(&mut self, ladder: &[f64], largest: f64) {
        for bucket in ladder {
            match self.buckets.last() {
                Some(last) if *last >= largest => break,
                Some(last) if bucket <= last => {}
                _ => self.buckets.push(*bucket),
            }
        }
    }

    /// The series with these label values, in the order of the label names.
    pub fn series(&self, values: &[&str]) -> M {
        let mut series = self.series.lock();
        let key: Vec<Box<str>> = values.iter().map(|value| Box::from(*value)).collect();
        if let Some(found) = series.get(&key) {
            return found.clone();
        }
        let options = self.labels.iter().zip(values).fold(Opts::new(self.name, self.help), |o, (name, value)| o.const_label(*name, *value));
        let Ok(made) = M::make(options, &self.buckets) else { return self.fallback.clone() };
        series.insert(key, made.clone());
        made
    }

    /// Replaces all series by those that `fill` adds to an empty family.
    pub fn replace(&self, fill: impl FnOnce(&Self)) {
        let Self { name, help, labels, buckets, fallback, .. } = self;
        let buckets = buckets.clone();
        let fresh = Self { name, help, labels, buckets, series: Mutex::default(), fallback: fallback.clone() };
        fill(&fresh);
        *self.series.lock() = fresh.series.into_inner();
    }

    /// Removes the series that have an unwanted label value.
    pub fn retain(&self, wanted: impl Fn(&str, &str) -> bool) {
        self.series.lock().retain(|values, _| self.labels.iter().zip(values).all(|(name, value)| wanted(name, value)));
    }

    /// Calls `visit` with the label values, in the order of the label names, and the metric of each series.
    pub fn each(&self, mut visit: impl FnMut(&[Box<str>], &M)) {
        self.series.lock().iter().for_each(|(values, metric)| visit(values, metric));
    }

    /// The family for export; `None` without series.
    pub fn collect(&self) -> Option<MetricFamily> {
        let metrics: Vec<_> = self.series.lock().values().map(Metric::metric).collect();
        if metrics.is_empty() {
            return None;
        }
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(M::KIND);
        family.set_metric(metrics);
        Some(family)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_read_alike_in_a_row_are_different_series() {
        let family = Family::<IntCounter>::new("x_total", "X.", &["a", "b"]).unwrap();
        family.series(&["ab", "c"]).inc();
        family.series(&["a", "bc"]).inc_by(2);
        family.series(&["ab", "c"]).inc();
        let shown: Vec<_> = family.collect().unwrap().get_metric().iter().map(|m| m.get_counter().get_value()).collect();
        assert_eq!(shown, [2.0, 2.0]);
        family.retain(|name, value| name != "b" || value == "c");
        assert_eq!(family.collect().unwrap().get_metric().len(), 1);
    }
}
