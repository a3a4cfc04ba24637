//! The session layers around a handler, and which of them answers for a struct.

use std::iter::successors;
use std::sync::Arc;

use http::Extensions;

use crate::config::{Config, StructName};
use crate::error::Error;
use crate::request::Request;

/// The sessions that a request has by the layers around it: the innermost layer's, and those further out.
#[derive(Clone)]
pub(crate) struct Layers {
    request: Arc<Request>,
    /// The structs that the layer answers for; all, if there is no such list.
    only_for: Option<Arc<[StructName]>>,
    outer: Option<Arc<Self>>,
}

impl Layers {
    /// Adds a layer. Returns the session that it has to write; `None` if it leaves that to one further out.
    pub(crate) fn enter(extensions: &mut Extensions, config: &Arc<Config>) -> Option<Arc<Request>> {
        let outer = extensions.remove::<Self>().map(Arc::new);
        let is_same = |outer: &&Self| config.is_within(&outer.request.config);
        let same = all(outer.as_deref()).find(is_same);
        let (request, own) = if let Some(same) = same {
            if !config.shares_store(&same.request.config) {
                config.hints.within();
            }
            (Arc::clone(&same.request), None)
        } else {
            let own = Arc::new(Request::new(Arc::clone(config)));
            (Arc::clone(&own), Some(own))
        };
        extensions.insert(Self {
            request,
            only_for: config.only_for.clone(),
            outer,
        });
        own
    }

    /// Returns the session that answers for a struct: of the innermost layer that names it, or else of the innermost that
    /// names nothing.
    pub(crate) fn of(extensions: &Extensions, asked: StructName) -> Result<&Arc<Request>, Error> {
        let names_it = |layer: &&Self| {
            let named = layer.only_for.as_ref();
            named.is_some_and(|named| named.contains(&asked))
        };
        let innermost = extensions.get::<Self>();
        match all(innermost).find(names_it) {
            Some(layer) => Ok(&layer.request),
            None => general(innermost, |named| Error::only_for(asked.name, named)),
        }
    }

    /// Returns the session that answers for whatever is not named.
    pub(crate) fn general(extensions: &Extensions) -> Result<&Arc<Request>, Error> {
        general(extensions.get(), Error::only_for_structs)
    }
}

/// Returns a layer and those around it.
fn all(innermost: Option<&Layers>) -> impl Iterator<Item = &Layers> {
    successors(innermost, |layer| layer.outer.as_deref())
}

fn general(
    innermost: Option<&Layers>,
    refusal: impl FnOnce(&str) -> Error,
) -> Result<&Arc<Request>, Error> {
    if let Some(layer) = all(innermost).find(|layer| layer.only_for.is_none()) {
        return Ok(&layer.request);
    }
    let named =
        all(innermost).flat_map(|layer| layer.only_for.iter().flat_map(|named| named.iter()));
    let named: Vec<_> = named.map(|named| format!("`{}`", named.name)).collect();
    Err(match &*named {
        [] => Error::missing_layer(),
        named => refusal(&named.join(", ")),
    })
}
