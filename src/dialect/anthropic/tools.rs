//! Writes tools and the choice among them in the words of the Messages API.

use super::messages::write_cache;
use super::toolbox::{Call, Toolbox};
use crate::json::write::Writer;

/// Writes the members `tools` and `tool_choice`.
pub(super) fn write(w: &mut Writer, toolbox: &Toolbox<'_>) {
    if toolbox.tools.is_empty() {
        return;
    }
    w.key("tools").array();
    for tool in &toolbox.tools {
        w.object().key("name").text(tool.name);
        if let Some(description) = tool.description {
            w.key("description").text(description);
        }
        w.key("input_schema").raw(&tool.schema);
        if tool.strict {
            w.key("strict").flag(true);
        }
        write_cache(w, tool.cache);
        w.end_object();
    }
    w.end_array();
    let answer = matches!(toolbox.call, Call::Tool(_)) && toolbox.content_tool().is_some();
    if toolbox.call != Call::Unsaid || toolbox.serial {
        write_choice(w, toolbox.call, toolbox.serial || answer);
    }
}

/// Writes `tool_choice`; `serial`: with one call at most.
pub(in crate::dialect) fn write_choice(w: &mut Writer, call: Call<'_>, serial: bool) {
    w.key("tool_choice").object().key("type");
    match call {
        Call::Unsaid | Call::Auto => w.string("auto"),
        Call::None => w.string("none"),
        Call::Any => w.string("any"),
        Call::Tool(name) => w.string("tool").key("name").text(name),
    };
    if serial && call != Call::None {
        w.key("disable_parallel_tool_use").flag(true);
    }
    w.end_object();
}
