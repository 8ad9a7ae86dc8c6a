//! The endpoints whose requests pass ([`Endpoint`]): of a JSON body and of a form only the model is replaced, and of a JSON body
//! what the route sets. Every other byte stays.

use crate::account::Units;
use crate::error::{ApiError, ErrorKind};
use crate::json::slices::Slices;
use crate::json::splice::Splice;
use crate::json::walk;
use crate::json::write::{Writer, escape};
use crate::llm::endpoint::Endpoint;
use crate::llm::envelope::{ChatRequest, Parsed, is_gateways};
use crate::llm::field::Field;
use crate::llm::validate;
use bytes::Bytes;
use multipart::{Malformed, Parts};
use std::borrow::Cow;
use std::ops::Range;

pub mod multipart;

/// Longest `model` of a form, in bytes.
const MAX_MODEL: usize = 1 << 10;
/// Longest field of a form that the gateway looks into, in bytes; a longer one only passes.
const MAX_FIELD: usize = 64 << 10;
/// The member that asks for a stream of speech: "sse" or "audio".
const STREAM_FORMAT: &str = "stream_format";
/// The fields of a form, beside the model, that the gateway looks into.
const FIELDS: [&str; 5] = ["stream", "n", "prompt", "user", STREAM_FORMAT];

/// A form that has been read.
#[derive(Clone, Debug)]
pub struct Form {
    body: Bytes,
    boundary: Box<str>,
    /// The content of its part `model`.
    model: Range<usize>,
}

/// The boundary of a body whose `content-type` headers are these; `None` where it is to be JSON.
///
/// # Errors
/// 415 where the endpoint has no bodies of this type, 400 for a form without a good boundary.
pub fn boundary<'h>(endpoint: Endpoint, mut content_types: impl Iterator<Item = &'h [u8]>) -> Result<Option<Box<str>>, ApiError> {
    let first = content_types.next().unwrap_or_default();
    if content_types.next().is_some() {
        return Err(ApiError::invalid("There are several Content-Type headers; send one."));
    }
    let boundary = multipart::boundary(first).map_err(|Malformed(what)| {
        let message = format!("The Content-Type of this form cannot be used: {what}. Leave the header to your HTTP library.");
        ApiError::invalid(message)
    })?;
    let is_text = |kind: &str| first.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind.as_bytes()));
    let path = endpoint.path();
    let unsupported = |want: &str| {
        let message = format!("The Content-Type of POST /v1{path} must be {want}.");
        Err(ApiError::new(415, ErrorKind::InvalidRequest, message))
    };
    match boundary {
        Some(boundary) if endpoint.takes_forms() => Ok(Some(boundary.into())),
        None if !endpoint.takes_forms() && !is_text("multipart/") => Ok(None), // as for chat, whatever its label says
        None if is_text("application/json") => Ok(None),
        _ if endpoint.takes_forms() => unsupported("multipart/form-data (or application/json, where the provider takes that)"),
        _ => unsupported("application/json"),
    }
}

/// Checks a JSON body.
///
/// # Errors
/// A 400 that names the position or the field.
pub fn parse(body: Bytes) -> Result<Parsed, ApiError> {
    let parsed = Parsed::scan_as(body, |field| match field {
        Field::Model | Field::Stream | Field::EpisodeId | Field::TensorzeroEpisodeId => Some(field.shape()),
        _ => None,
    })?;
    validate::model(parsed.raw(Field::Model))?;
    Ok(parsed)
}

/// Reads a form: where its model is, and as JSON what the gateway looks at.
///
/// # Errors
/// A 400 that says what is wrong with the form, or names `model`.
pub fn form(body: Bytes, boundary: Box<str>) -> Result<(Parsed, Form), ApiError> {
    let malformed = |Malformed(what): Malformed| ApiError::invalid(format!("The form in the body cannot be read: {what}."));
    let no_model = |what: &str| ApiError::field(Field::Model.name(), format!("`model` {what}"));
    let delimiter = multipart::delimiter(&boundary);
    let mut parts = Parts::new(&body, &delimiter).map_err(malformed)?;
    let (mut model, mut fields) = (None, [None::<&str>; FIELDS.len()]);
    while let Some(part) = parts.part().map_err(malformed)? {
        let content = body.get(part.content.clone()).unwrap_or_default();
        if part.name == Field::Model.name().as_bytes() {
            if part.is_file || part.is_encoded {
                return Err(no_model("must be a plain text field of the form, not a file"));
            }
            if content.len() > MAX_MODEL {
                return Err(no_model("is longer than 1 KiB; send the name of a route"));
            }
            let text = std::str::from_utf8(content).map_err(|_| no_model("must be UTF-8 text"))?;
            if model.replace((text, part.content)).is_some() {
                return Err(no_model("is there twice; send it once"));
            }
        } else if let Some(at) = FIELDS.iter().position(|name| name.as_bytes() == part.name).filter(|_| content.len() <= MAX_FIELD) {
            let text = std::str::from_utf8(content).ok().filter(|_| !part.is_file && !part.is_encoded);
            fields.get_mut(at).into_iter().for_each(|field| *field = field.or(text));
        }
    }
    let (name, at) = model.ok_or_else(|| validate::missing(Field::Model.name()))?;
    let parsed = parse(looked_at(name, fields).into())?;
    Ok((parsed, Form { body: body.clone(), boundary, model: at }))
}

/// A form's fields as the JSON body that says the same.
fn looked_at(model: &str, fields: [Option<&str>; FIELDS.len()]) -> Vec<u8> {
    let mut w = Writer::with_capacity(64 + model.len() + fields.iter().flatten().map(|text| text.len()).sum::<usize>());
    w.object().key(Field::Model.name()).string(model);
    for (name, text) in FIELDS.into_iter().zip(fields).filter_map(|(name, text)| Some((name, text?))) {
        match name {
            "stream" => w.key(name).flag(["true", "1"].iter().any(|yes| yes.eq_ignore_ascii_case(text.trim()))),
            "n" => w.key(name).integer(walk::unsigned(text.trim()).unwrap_or(1)),
            _ => w.key(name).string(text),
        };
    }
    w.end_object();
    w.finish()
}

/// Whether the client wants a stream of events.
pub fn streams(parsed: &Parsed, endpoint: Endpoint) -> bool {
    match endpoint {
        Endpoint::AudioSpeech => parsed.raw_named(STREAM_FORMAT) == Some("\"sse\""),
        _ => parsed.stream(),
    }
}

/// What a request asks for, beside tokens, that has a price.
pub fn units(request: &ChatRequest<'_>, endpoint: Endpoint) -> Units {
    let n = || request.raw_named("n").and_then(walk::unsigned).unwrap_or(1).max(1);
    let characters = || request.raw_named("input").and_then(walk::string).map_or(0, |text| text.decode().chars().count() as u64);
    Units {
        requests: 1,
        images: if endpoint.makes_images() { n() } else { 0 },
        characters: if endpoint == Endpoint::AudioSpeech { characters() } else { 0 },
        milliseconds: 0,
    }
}

impl Form {
    /// Its length in bytes.
    pub fn size(&self) -> usize {
        self.body.len()
    }

    /// The value of `content-type` that it is sent with.
    pub fn content_type(&self) -> String {
        multipart::content_type(&self.boundary)
    }

    /// The form with this model.
    ///
    /// # Errors
    /// A 400 where the model's name has the form's boundary in it.
    pub fn with_model(&self, model: &str) -> Result<Slices, ApiError> {
        if self.body.get(self.model.clone()) == Some(model.as_bytes()) {
            return Ok(self.body.clone().into());
        }
        if memchr::memmem::find(model.as_bytes(), &multipart::delimiter(&self.boundary)).is_some() {
            return Err(ApiError::invalid("The boundary of this form is in the name of the provider's model; choose another boundary."));
        }
        Ok(Slices::replacing(&self.body, self.model.clone(), model.as_bytes()))
    }
}

/// A JSON body for the model of the attempt's target, under the route's settings: its overrides, and its defaults where the
/// client has no member of that name. What speaks to the gateway itself is taken out.
pub fn body(request: &ChatRequest<'_>) -> Slices {
    let (parsed, bytes) = (request.parsed, request.parsed.body());
    let mut splice = Splice::new(bytes, parsed.envelope());
    let mut model = Vec::with_capacity(request.model.len() + 2);
    model.push(b'"');
    escape(&mut model, request.model);
    model.push(b'"');
    if let Some(member) = parsed.member(Field::Model).filter(|member| member.value.of(bytes) != model) {
        splice.replace(member, Cow::Owned(model));
    }
    parsed.envelope().members.iter().filter(|member| is_gateways(&parsed.name_of(member))).for_each(|member| splice.remove(member));
    let params = request.params;
    let defaults = params.defaults.iter().filter(|(name, _)| !params.overrides.iter().any(|(other, _)| other == name));
    for (name, json) in params.overrides.iter().chain(defaults.filter(|(name, _)| parsed.raw_named(name).is_none())) {
        match (parsed.find(name), json.as_str()) {
            (Some(member), "null") => splice.remove(member),
            (Some(member), json) => splice.replace(member, Cow::Borrowed(json.as_bytes())),
            (None, "null") => {}
            (None, json) => splice.insert(name, Cow::Borrowed(json.as_bytes())),
        }
    }
    splice.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::settings::Params;

    fn with<'a>(parsed: &'a Parsed, params: &'a Params, model: &'a str) -> ChatRequest<'a> {
        ChatRequest { parsed, params, system: Some("never sent here"), model, seal: None }
    }

    #[test]
    fn of_a_json_body_the_model_and_what_the_route_sets_are_replaced() {
        let text = r#"{ "prompt" : "a", "n":null ,"model": "r" , "x" : [1.0] , "temperature":0.1,"episode_id":"0190", "user": "\u00fc" }"#;
        let parsed = parse(text.into()).unwrap();
        let list = |list: &[(&str, &str)]| list.iter().map(|(name, json)| ((*name).to_owned(), (*json).to_owned())).collect();
        let settings = Params {
            overrides: list(&[("user", "null"), ("x", "[2]"), ("y", "null")]),
            defaults: list(&[("temperature", "0.9"), ("n", "2"), ("z", "3"), ("x", "4")]),
            ..Params::default()
        };
        assert_eq!(
            body(&with(&parsed, &settings, "m\"")).joined(),
            r#"{ "prompt" : "a", "n":2 ,"model": "m\"" , "x" : [2] , "temperature":0.1,"z":3 }"#
        );
        let plain = parse(r#"{"model":"m","n":null}"#.into()).unwrap();
        assert_eq!(body(&with(&plain, &Params::default(), "m")).joined().as_ptr(), plain.body().as_ptr(), "nothing to replace");
    }

    fn multipart(parts: &[(&str, &str)]) -> Bytes {
        let part = |(head, content): &(&str, &str)| format!("--b\r\nContent-Disposition: form-data; name={head}\r\n\r\n{content}\r\n");
        (parts.iter().map(part).collect::<String>() + "--b--\r\n").into()
    }

    #[test]
    fn of_a_form_only_the_content_of_the_model_is_replaced() {
        let parts =
            [("\"file\"; filename=\"a.wav\"", "\r\n--c\r\n\u{1}"), ("\"model\"", "r"), ("stream", "True"), ("n", "2"), ("user", "\"u\"")];
        for at in 0..parts.len() {
            let mut parts = parts;
            parts.swap(1, at);
            let body = multipart(&parts);
            let (parsed, form) = form(body.clone(), "b".into()).unwrap();
            assert_eq!(parsed.body(), r#"{"model":"r","stream":true,"n":2,"user":"\"u\""}"#);
            assert!(streams(&parsed, Endpoint::AudioTranscriptions));
            let want = String::from_utf8(body.to_vec()).unwrap().replace("\r\n\r\nr\r\n", "\r\n\r\nwhisper-1\r\n");
            assert_eq!(form.with_model("whisper-1").unwrap().joined(), want);
            assert_eq!(form.with_model("r").unwrap().joined().as_ptr(), body.as_ptr());
            assert!(form.with_model("--b").is_err(), "it would end the part");
        }
    }

    #[test]
    fn a_form_that_cannot_be_routed_says_why() {
        let long = "m".repeat(MAX_MODEL + 1);
        for (parts, want) in [
            (&[("file; filename=model", "m")][..], "`model` is missing"),
            (&[("model", "a"), ("x", ""), ("model", "b")], "`model` is there twice; send it once"),
            (&[("model; filename=\"m\"", "a")], "`model` must be a plain text field of the form, not a file"),
            (&[("model\r\nContent-Transfer-Encoding: base64", "bQ==")], "`model` must be a plain text field of the form, not a file"),
            (&[("model", &long)], "`model` is longer than 1 KiB; send the name of a route"),
            (&[("model", "")], "`model` must be the name of a route, which is not empty"),
        ] {
            let error = form(multipart(parts), "b".into()).unwrap_err();
            assert_eq!((error.status, error.param.as_deref()), (400, Some("model")), "{error:?}");
            assert!(error.message.starts_with(want), "{}", error.message);
        }
        let mut body = multipart(&[("model", "\u{fc}")]).to_vec();
        let at = body.iter().position(|byte| *byte == 0xc3).unwrap();
        body[at] = 0xff;
        assert_eq!(form(body.into(), "b".into()).unwrap_err().message, "`model` must be UTF-8 text");
        let error = form("--b\r\n".into(), "b".into()).unwrap_err();
        assert!(error.message.starts_with("The form in the body cannot be read: "), "{}", error.message);
    }

    #[test]
    fn a_body_has_the_type_that_its_endpoint_takes() {
        let of = |endpoint, types: &[&str]| {
            let found = boundary(endpoint, types.iter().map(|value| value.as_bytes()));
            found.map(|boundary| boundary.map(String::from)).map_err(|error| error.status)
        };
        let (json, form) = ("application/json; charset=utf-8", "multipart/form-data; boundary=b");
        assert_eq!(of(Endpoint::Completions, &[json]), Ok(None));
        assert_eq!(of(Endpoint::Completions, &[]), Ok(None));
        assert_eq!(of(Endpoint::AudioSpeech, &[form]), Err(415));
        assert_eq!(of(Endpoint::AudioSpeech, &["multipart/mixed; boundary=b"]), Err(415));
        assert_eq!(of(Endpoint::ImagesEdits, &[form]), Ok(Some("b".into())));
        assert_eq!(of(Endpoint::ImagesEdits, &[json]), Ok(None), "xAI's edits are JSON");
        assert_eq!(of(Endpoint::ImagesEdits, &[]), Err(415));
        assert_eq!(of(Endpoint::AudioTranscriptions, &["audio/wav"]), Err(415));
        assert_eq!(of(Endpoint::AudioTranscriptions, &["multipart/form-data"]), Err(400));
        assert_eq!(of(Endpoint::AudioTranscriptions, &[form, form]), Err(400));
    }

    #[test]
    fn units_are_what_is_asked_for() {
        let units = |endpoint, text: &'static str| units(&with(&parse(text.into()).unwrap(), &Params::default(), ""), endpoint);
        let images = units(Endpoint::ImagesGenerations, r#"{"model":"r","n":3,"input":"x"}"#);
        assert_eq!(images, Units { requests: 1, images: 3, ..Units::default() });
        assert_eq!(units(Endpoint::ImagesVariations, r#"{"model":"r"}"#).images, 1);
        assert_eq!(units(Endpoint::AudioSpeech, r#"{"model":"r","input":"\u00fc\n!"}"#).characters, 3);
        assert_eq!(units(Endpoint::Completions, r#"{"model":"r","n":3}"#), Units { requests: 1, ..Units::default() });
    }
}
