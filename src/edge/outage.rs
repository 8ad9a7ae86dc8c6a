//! The log lines about targets that are out or back: one for each change, none for each request.

use super::rescue::Failure;
use crate::redact::redact;
use crate::route::health::Outage;
use crate::route::standing::Cause;

/// A target is out from now on. A refused credential is the operator's to put right, and an error.
pub fn log_out(route: &str, provider: &str, model: &str, outage: &Outage, failure: &Failure) {
    let rest = outage.rest;
    let model = redact(model);
    match outage.cause {
        Cause::Credential => {
            let said = if failure.detail.is_empty() { &failure.error.message } else { &*failure.detail };
            log::error!(
                "route `{route}`: `{model}` at provider `{provider}` is set aside, its credential or account is refused; \
                 next try in {rest:.1?}: {said}"
            );
        }
        Cause::NotFound => log::error!(
            "route `{route}`: `{model}` at provider `{provider}` is set aside, the provider does not know the model; \
             next try in {rest:.1?}: {}",
            failure.error.message
        ),
        Cause::Failures => log::warn!("route `{route}`: `{model}` at provider `{provider}` is ejected for {rest:.1?}"),
    }
}

/// A target takes part again.
pub fn log_back(route: &str, provider: &str, model: &str, cause: Cause) {
    let model = redact(model);
    let before = match cause {
        Cause::Credential => "its credential was refused",
        Cause::NotFound => "its model was unknown",
        Cause::Failures => "it was ejected",
    };
    log::info!("route `{route}`: `{model}` at provider `{provider}` is back; {before}");
}
