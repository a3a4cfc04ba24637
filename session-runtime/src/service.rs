//! The service: the way of one request.
//!
//! The handler runs with the request's state at hand. When it has finished, what its handles changed is
//! committed, to the end, whether or not the client still listens. Then the response leaves.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum_core::BoxError;
use axum_core::body::Body;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, VARY};
use http::{HeaderMap, HeaderValue, Request as HttpRequest, Response};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tokio::task::JoinHandle;
use tower_service::Service;

use crate::config::Config;
use crate::error::{Causes, Error};
use crate::layers::Layers;
use crate::observe;
use crate::request::{Closing, Request};
use crate::sweep;
use crate::task::{Begun, begin, begin_at_once};

/// Serves requests with their sessions at hand: what [`SessionLayer`](crate::SessionLayer) makes of a service.
///
/// The service may answer with whatever body the layers below make of it. What leaves is axum's [`Body`]; one that comes
/// in leaves as it is.
#[derive(Clone, Debug)]
pub struct SessionService<S> {
    inner: S,
    config: Arc<Config>,
}

impl<S> SessionService<S> {
    pub(crate) fn new(inner: S, config: Arc<Config>) -> Self {
        Self { inner, config }
    }
}

impl<S, B, R> Service<HttpRequest<B>> for SessionService<S>
where
    S: Service<HttpRequest<B>, Response = Response<R>>,
    R: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: HttpRequest<B>) -> Self::Future {
        sweep::start(&self.config);
        let own = Layers::enter(request.extensions_mut(), &self.config);
        ResponseFuture {
            handler: self.inner.call(request),
            request: own,
            finishing: None,
        }
    }
}

pin_project! {
    /// The response, once the handler has finished and its changes are committed.
    pub struct ResponseFuture<F> {
        #[pin]
        handler: F,
        // None where a layer around this one has the session, and once the response has left.
        request: Option<Arc<Request>>,
        finishing: Option<Finishing>,
    }

    impl<F> PinnedDrop for ResponseFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            if let Some(request) = &this.project().request {
                request.cancel();
            }
        }
    }
}

impl<F> std::fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("finishing", &self.finishing.is_some())
            .finish_non_exhaustive()
    }
}

/// A response that waits for its commit.
struct Finishing {
    response: Response<Body>,
    commit: JoinHandle<Result<(), Error>>,
    /// Only a lifetime is extended: the response is good either way.
    touches: bool,
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(request) = this.request else {
            let response = ready!(this.handler.poll(context))?;
            return Poll::Ready(Ok(response.map(Body::new)));
        };
        if this.finishing.is_none() {
            let running = request.run();
            let response = ready!(this.handler.poll(context))?;
            drop(running);
            match close(request, response.map(Body::new), context) {
                Step::Leave(response) => return Poll::Ready(Ok(leave(this.request, response))),
                Step::Wait(finishing) => *this.finishing = Some(finishing),
            }
        }
        let Some(finishing) = this.finishing.as_mut() else {
            return Poll::Pending;
        };
        let committed = ready!(Pin::new(&mut finishing.commit).poll(context));
        let committed = committed.unwrap_or_else(|lost| Err(Error::lost(lost)));
        let Some(finishing) = this.finishing.take() else {
            return Poll::Pending;
        };
        let response = finish_response(finishing.response, committed, finishing.touches);
        Poll::Ready(Ok(leave(this.request, response)))
    }
}

enum Step {
    Leave(Response<Body>),
    Wait(Finishing),
}

/// Decides what is to be committed, and begins with it. A store that answers at once is done here; else the
/// commit gets a task of its own, so that it runs to its end whoever goes away.
fn close(request: &Arc<Request>, response: Response<Body>, context: &mut Context<'_>) -> Step {
    let (parts, body) = response.into_parts();
    let closing = request.close(&parts);
    let response = Response::from_parts(parts, body);
    let underway = &request.config.underway;
    let (begun, touches) = match closing {
        Closing::Done => return Step::Leave(response),
        Closing::Failed(error) => return Step::Leave(error.in_place_of(&response)),
        Closing::Waits(failure) => {
            let idle = Arc::clone(request).idle(failure);
            (begin(underway, idle, context), false)
        }
        Closing::Writes => (begin_to_finish(request, context), false),
        Closing::Touches => (begin_to_finish(request, context), true),
    };
    match begun {
        Begun::Done(committed) => Step::Leave(finish_response(response, committed, touches)),
        Begun::Task(commit) => Step::Wait(Finishing {
            response,
            commit,
            touches,
        }),
    }
}

fn begin_to_finish(request: &Arc<Request>, context: &mut Context<'_>) -> Begun<()> {
    let underway = &request.config.underway;
    let finish = || Arc::clone(request).finish();
    if request.config.store.at_once().is_some() {
        begin_at_once(underway, finish, context)
    } else {
        begin(underway, finish(), context)
    }
}

/// The handler's response, or what takes its place if its changes could not be written.
fn finish_response(
    response: Response<Body>,
    committed: Result<(), Error>,
    touches: bool,
) -> Response<Body> {
    match committed {
        Ok(()) => response,
        Err(error) if touches => {
            observe::untouched(Causes(&error));
            response
        }
        Err(error) => error.in_place_of(&response),
    }
}

/// Tells the client about its id, and caches about the client. That is the last of the request.
fn leave(request: &mut Option<Arc<Request>>, mut response: Response<Body>) -> Response<Body> {
    let Some(request) = request.take() else {
        return response;
    };
    let (notice, depends) = request.notice();
    let headers = response.headers_mut();
    if let Some(notice) = notice {
        request.tell(headers, notice);
        if !headers.contains_key(CACHE_CONTROL) {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
    }
    if depends {
        vary(headers, request.config.transport.varies_by());
    }
    response
}

/// Says that the response depends on the header `name` of the request, unless it says so already.
fn vary(headers: &mut HeaderMap, name: HeaderValue) {
    let says_so = |value: &HeaderValue| {
        let mut names = value
            .as_bytes()
            .split(|byte| *byte == b',')
            .map(<[u8]>::trim_ascii);
        names.any(|found| found == b"*" || found.eq_ignore_ascii_case(name.as_bytes()))
    };
    if !headers.get_all(VARY).iter().any(says_so) {
        headers.append(VARY, name);
    }
}
