//! The log lines about targets that are out or back: one for each change, none for each request.

use crate::lifecycle::AttemptFailure;
use crate::provider::Target;
use crate::redact::redact;
use crate::route::health::Outage;
use crate::route::standing::Cause;

/// A target is out from now on. A refused credential is the operator's to put right, and an error.
pub fn log_out(route: &str, target: &Target, model: &str, outage: &Outage, failure: &AttemptFailure) {
    let (provider, model, rest) = (&target.provider.endpoint_name, redact(model), outage.rest);
    let why = match outage.cause {
        Cause::Failures => return log::warn!("route `{route}`: `{model}` at provider `{provider}` is ejected for {rest:.1?}"),
        Cause::Credential => "its credential or account is refused",
        Cause::NotFound => "the provider does not know the model",
    };
    let said = failure.detail(&target.provider.name);
    log::error!("route `{route}`: `{model}` at provider `{provider}` is set aside, {why}; next try in {rest:.1?}: {said}");
}

/// A target takes part again.
pub fn log_back(route: &str, target: &Target, model: &str, cause: Cause) {
    let before = match cause {
        Cause::Credential => "its credential was refused",
        Cause::NotFound => "its model was unknown",
        Cause::Failures => "it was ejected",
    };
    log::info!("route `{route}`: `{}` at provider `{}` is back; {before}", redact(model), target.provider.endpoint_name);
}
