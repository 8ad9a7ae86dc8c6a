//! Logs what an operator should know of targets: ejections, recoveries, prices that are missing.

use crate::lifecycle::AttemptFailure;
use crate::provider::Target;
use crate::redact::redact;
use crate::route::availability::Cause;
use crate::route::health::Outage;
use crate::system;
use crate::telemetry::throttle::Throttle;

/// Logs an ejection: an error if the operator has to fix it, else a warning.
pub fn log_ejection(route: &str, target: &Target, model: &str, outage: &Outage, failure: &AttemptFailure) {
    let (provider, model, rest) = (&target.provider.endpoint_name, redact(model), outage.rest);
    let why = match outage.cause {
        Cause::Failures => return log::warn!("route `{route}`: `{model}` at provider `{provider}` is ejected for {rest:.1?}"),
        Cause::Credential => "the provider rejected the credential or account",
        Cause::NotFound => "the provider does not have the model",
    };
    let detail = failure.detail(&target.provider.name);
    log::error!("route `{route}`: `{model}` at provider `{provider}` is ejected for {rest:.1?}, {why}: {detail}");
}

/// Logs a recovery.
pub fn log_recovery(route: &str, target: &Target, model: &str, cause: Cause) {
    let cause = match cause {
        Cause::Credential => "after a rejected credential",
        Cause::NotFound => "after an unknown model",
        Cause::Failures => "after failures",
    };
    log::info!("route `{route}`: `{}` at provider `{}` is available again {cause}", redact(model), target.provider.endpoint_name);
}

/// Logs that a model costs nothing, because the price catalogue does not have it and `unlisted` is missing.
pub fn log_unpriced(route: &str, target: &Target, model: &str) {
    static THROTTLE: Throttle = Throttle::new();
    if let Some(suppressed) = THROTTLE.admit(system::now()) {
        let (provider, model) = (&target.provider.name, redact(model));
        log::warn!("route `{route}`: the price catalogue has no model `{model}` of provider `{provider}`: it costs nothing{suppressed}");
    }
}
