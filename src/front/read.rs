//! Reads the members of a client's JSON objects, and says in the client's words what is wrong with them.

use crate::error::ApiError;
use crate::json::text::Text;
use crate::json::walk::{self, Cursor};
use crate::llm::request::{CacheMark, Content, Path};

/// Anthropic's `{"type": "ephemeral", "ttl"?: "5m" | "1h"}`, which clients send in OpenAI's shape too; `None` for anything
/// else.
pub(in crate::front) fn cache(value: &str) -> Option<CacheMark> {
    let [kind, ttl] = inner_members(Some(value), Path::default(), ["type", "ttl"]).ok()?;
    let ttl = optional(ttl, Path::default()).ok()?;
    let mark = if ttl.is_some_and(|ttl| ttl.decode() == "1h") { CacheMark::Hour } else { CacheMark::Short };
    (walk::string(kind?)?.decode() == "ephemeral").then_some(mark)
}

/// The raw members of these names in an object that must be there.
///
/// # Errors
/// A 400 that names the object where it is missing, and those of [`raw_members`].
pub(in crate::front) fn inner_members<'a, const N: usize>(
    value: Option<&'a str>,
    at: Path,
    names: [&'static str; N],
) -> Result<[Option<&'a str>; N], ApiError> {
    let value = value.filter(|value| *value != "null").ok_or_else(|| at.missing())?;
    raw_members(&mut Cursor::inside(value), at, names)
}

/// The raw members of these names in the object that the cursor is at.
///
/// # Errors
/// A 400 that names the value, where it is no object, or a member that is repeated.
pub(in crate::front) fn raw_members<'a, const N: usize>(
    cursor: &mut Cursor<'a>,
    at: Path,
    names: [&'static str; N],
) -> Result<[Option<&'a str>; N], ApiError> {
    walked_members(cursor, at, names, |_, _| Ok(false))
}

/// [`raw_members`] in the same walk in which `reads` may read the value of a member, by its name. It returns whether it has.
///
/// # Errors
/// Those of [`raw_members`] and of `reads`.
pub(in crate::front) fn walked_members<'a, const N: usize>(
    cursor: &mut Cursor<'a>,
    at: Path,
    names: [&'static str; N],
    mut reads: impl FnMut(&mut Cursor<'a>, &str) -> Result<bool, ApiError>,
) -> Result<[Option<&'a str>; N], ApiError> {
    if !cursor.at_object() {
        return Err(at.must_be("an object"));
    }
    let mut found = [None; N];
    cursor.object(|cursor, name| {
        let name = Text::Raw(name).decode();
        let Some((slot, _)) = found.iter_mut().zip(names).find(|(_, wanted)| *wanted == name) else {
            cursor.raw()?;
            return Ok(());
        };
        let start = cursor.position();
        if !reads(cursor, &name)? {
            cursor.raw()?;
        }
        if slot.replace(cursor.since(start)).is_some() {
            let path = format!("{at}.{name}");
            let message = format!("`{path}` is there twice");
            return Err(ApiError::field(path, message));
        }
        Ok(())
    })?;
    Ok(found)
}

/// Calls `each` at every element of the array that the cursor is at, with the element's index.
///
/// # Errors
/// A 400 that names the value, where it is no array; those of [`Cursor::array`] and of `each`.
pub(in crate::front) fn elements<'a>(
    cursor: &mut Cursor<'a>,
    at: Path,
    mut each: impl FnMut(&mut Cursor<'a>, usize) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    if !cursor.at_array() {
        return Err(at.must_be("an array"));
    }
    let mut count = 0;
    cursor.array(|cursor| {
        count += 1;
        each(cursor, count - 1)
    })
}

/// Whether a flag is true; not where it is absent or null.
///
/// # Errors
/// A 400 that names the value, where it is no flag.
pub(in crate::front) fn flag(value: Option<&str>, at: Path) -> Result<bool, ApiError> {
    match value {
        Some("true") => Ok(true),
        None | Some("false" | "null") => Ok(false),
        Some(_) => Err(at.must_be("true or false")),
    }
}

/// A string that may be absent or null.
pub(in crate::front) fn optional(value: Option<&str>, at: Path) -> Result<Option<Text<'_>>, ApiError> {
    value.map_or(Ok(None), |value| text(value, at, "a string"))
}

/// A string that must be there.
pub(in crate::front) fn required(value: Option<&str>, at: Path) -> Result<Text<'_>, ApiError> {
    optional(value, at)?.ok_or_else(|| at.missing())
}

/// A string; `None` for null. `want`: what the value must be, for the error of any other.
pub(in crate::front) fn text<'a>(value: &'a str, at: Path, want: &str) -> Result<Option<Text<'a>>, ApiError> {
    match walk::string(value) {
        None if value != "null" => Err(at.must_be(want)),
        text => Ok(text),
    }
}

/// OpenAI's `input_audio`, `{"data", "format"}`.
///
/// # Errors
/// A 400 that names the member.
pub(in crate::front) fn audio(value: Option<&str>, at: Path) -> Result<Content<'_>, ApiError> {
    let [data, format] = inner_members(value, at.leaf("input_audio"), ["data", "format"])?;
    let data = required(data, at.leaf("input_audio.data"))?;
    Ok(Content::Audio { data, format: required(format, at.leaf("input_audio.format"))? })
}
