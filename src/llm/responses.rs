//! A request of OpenAI's Responses API, for one attempt.

use super::envelope::ChatRequest;
use super::state::Seal;
use std::collections::HashMap;
use std::sync::Arc;

/// The request as its front holds it.
#[derive(Clone, Copy)]
pub struct ResponsesRequest<'a> {
    /// The body, under the route's settings. Of chat's fields it has those that the protocols share.
    pub base: ChatRequest<'a>,
    /// The functions that stand for its other tools.
    pub functions: &'a Arc<Functions>,
}

impl ResponsesRequest<'_> {
    /// Whether its reasoning is left out, because the target could not read what is encrypted in it.
    pub fn without_reasoning(&self) -> bool {
        self.base.seal.is_some_and(Seal::forgets)
    }
}

/// The functions that stand for tools which only this protocol has, so that any provider can be asked for them.
#[derive(Clone, Debug, Default)]
pub struct Functions {
    list: Vec<Function>,
    by_name: HashMap<Box<str>, usize>,
    /// By the name of the tool.
    plain: HashMap<Box<str>, usize>,
    /// By the namespace and the name of the tool.
    inner: HashMap<Box<str>, HashMap<Box<str>, usize>>,
}

/// A function that stands for a tool of another form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, which is no other tool's.
    pub name: Box<str>,
    /// The name of the tool.
    pub tool: Box<str>,
    /// The namespace of the tool, where it has one.
    pub namespace: Option<Box<str>>,
    /// The description for a custom tool, whose input is any text; `None` for a function of a namespace.
    pub custom: Option<Box<str>>,
}

impl Functions {
    /// The one that stands for a tool.
    pub fn for_tool(&self, namespace: Option<&str>, tool: &str) -> Option<&Function> {
        let tools = namespace.map_or(Some(&self.plain), |namespace| self.inner.get(namespace))?;
        self.list.get(*tools.get(tool)?)
    }

    /// The one of this name.
    pub fn named(&self, name: &str) -> Option<&Function> {
        self.list.get(*self.by_name.get(name)?)
    }

    /// Adds one. There is none for its tool, and none of its name.
    pub fn add(&mut self, function: Function) {
        let index = self.list.len();
        let tools = match &function.namespace {
            Some(namespace) => self.inner.entry(namespace.clone()).or_default(),
            None => &mut self.plain,
        };
        tools.insert(function.tool.clone(), index);
        self.by_name.insert(function.name.clone(), index);
        self.list.push(function);
    }
}
