//! The series of attributes whose values are configured.

use super::Metrics;
use crate::account::Ledger;
use crate::telemetry::attribute::{Attribute, NONE, OTHER, Values};
use crate::telemetry::labels::TokenType;

impl Metrics {
    /// Records a finished request under the values of its attributes.
    pub fn attributes(&self, values: &Values, attributes: &[Attribute], ledger: &Ledger) {
        for (attribute, (_, value)) in attributes.iter().zip(values.iter()).filter(|(attribute, _)| !attribute.values.is_empty()) {
            let known = attribute.values.iter().find(|known| ***known == *value);
            let value = known.map_or(if value.is_empty() { NONE } else { OTHER }, |known| known);
            let labels = [&*attribute.name, value];
            self.families.attributed_requests.series(&labels).inc();
            let usage = &ledger.usage;
            for (kind, count) in TokenType::ALL.iter().zip([usage.prompt, usage.completion, usage.cached, usage.reasoning]) {
                if count > 0 {
                    self.families.attributed_tokens.series(&[&*attribute.name, value, kind.name()]).inc_by(count);
                }
            }
            if ledger.micro_usd > 0 {
                self.families.attributed_cost.series(&labels).inc_by(ledger.micro_usd as f64 / 1e6);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::usage::Usage;
    use crate::telemetry::attribute::Source;
    use crate::telemetry::metrics::Names;
    use http::{HeaderMap, HeaderName, HeaderValue};

    #[test]
    fn only_listed_values_become_label_values() {
        let header = |name| Source::Header(HeaderName::from_static(name));
        let attributes = [
            Attribute { name: "tier".into(), source: header("x-tier"), values: vec!["free".into(), "paid".into()] },
            Attribute { name: "agent".into(), source: header("x-agent"), values: Vec::new() },
        ];
        let metrics = Metrics::new(Names::default(), None).unwrap();
        let usage = Usage { prompt: 3, completion: 4, ..Usage::default() };
        let ledger = Ledger { usage, micro_usd: 1_500_000, ..Ledger::new() };
        for tier in ["paid", "paid", "gold", ""] {
            let headers = HeaderMap::from_iter([
                (HeaderName::from_static("x-tier"), HeaderValue::from_static(tier)),
                (HeaderName::from_static("x-agent"), HeaderValue::from_static("mine")),
            ]);
            metrics.attributes(&Values::of_headers(&attributes, &headers), &attributes, &ledger);
        }
        let text = metrics.text(0).unwrap();
        for series in [
            "tidegate_attributed_requests_total{attribute=\"tier\",value=\"paid\"} 2",
            "tidegate_attributed_requests_total{attribute=\"tier\",value=\"other\"} 1",
            "tidegate_attributed_requests_total{attribute=\"tier\",value=\"none\"} 1",
            "tidegate_attributed_tokens_total{attribute=\"tier\",token_type=\"output\",value=\"paid\"} 8",
            "tidegate_attributed_cost_usd_total{attribute=\"tier\",value=\"paid\"} 3",
        ] {
            assert!(text.contains(series), "{series}\n{text}");
        }
        assert!(!text.contains("gold") && !text.contains("mine"), "{text}");
        let fewer = Names { attributes: vec![("tier".into(), vec!["free".into()])], ..Names::default() };
        let text = Metrics::new(fewer, Some(&metrics)).unwrap().text(0).unwrap();
        assert!(text.contains("value=\"other\"") && !text.contains("paid"), "a value that is no longer listed has no series: {text}");
    }
}
