//! What is served, and what stands before it.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, post};

use super::{App, api, assets, classify, events, guard, login};

/// Who may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    /// Everybody: nothing of it is anybody's.
    All,
    /// Who has the token, and the page itself.
    Guarded,
    /// The same; it bounds its own time.
    GuardedAndSlow,
}

struct Route {
    path: &'static str,
    /// For the comparison with the description.
    #[cfg_attr(not(test), allow(dead_code))]
    method: Method,
    who: For,
    answer: MethodRouter<Arc<App>>,
}

fn route<H: Handler<T, Arc<App>>, T: 'static>(
    method: Method,
    path: &'static str,
    who: For,
    handler: H,
) -> Route {
    let answer = match method {
        Method::POST => post(handler),
        _ => get(handler),
    };
    Route {
        path,
        method,
        who,
        answer,
    }
}

/// All that there is, as openapi.json describes it.
fn all() -> Vec<Route> {
    use For::{All, Guarded, GuardedAndSlow};
    let (get, post) = (Method::GET, Method::POST);
    vec![
        route(get.clone(), "/", All, login::index),
        route(get.clone(), "/login", All, login::show),
        route(post.clone(), "/login", All, login::sign_in),
        route(get.clone(), "/assets/{name}", All, assets::file),
        route(get.clone(), "/healthz", All, api::healthz),
        route(get.clone(), "/metrics", Guarded, api::metrics),
        route(get.clone(), "/api/openapi.json", Guarded, assets::openapi),
        route(get.clone(), "/api/status", Guarded, api::status),
        route(get.clone(), "/api/events", Guarded, events::stream),
        route(get.clone(), "/api/history", Guarded, api::history),
        route(get.clone(), "/api/history.csv", Guarded, api::history_csv),
        route(get.clone(), "/api/history.json", Guarded, api::history_json),
        route(get.clone(), "/api/model", Guarded, api::model),
        route(get, "/api/doctor", GuardedAndSlow, api::doctor),
        route(post.clone(), "/api/mute", Guarded, api::mute),
        route(post.clone(), "/api/confirm", Guarded, api::confirm),
        route(post, "/classify", GuardedAndSlow, classify::classify),
    ]
}

pub(super) fn router(app: &Arc<App>) -> Router {
    let of = |who: For| {
        let routes = all().into_iter().filter(|route| route.who == who);
        routes.fold(Router::new(), |router, route| {
            router.route(route.path, route.answer)
        })
    };
    let in_time = || from_fn_with_state(Arc::clone(app), guard::in_time);
    let api = of(For::Guarded)
        .route_layer(in_time())
        .merge(of(For::GuardedAndSlow))
        .route_layer(from_fn_with_state(Arc::clone(app), guard::api));
    of(For::All)
        .route_layer(in_time())
        .merge(api)
        .fallback(login::nowhere)
        .method_not_allowed_fallback(login::not_so)
        .layer(from_fn_with_state(Arc::clone(app), guard::everything))
        .with_state(Arc::clone(app))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_described_and_every_description_is_a_route() {
        let served: BTreeSet<(String, String)> = all()
            .iter()
            .map(|route| (route.path.into(), route.method.as_str().to_lowercase()))
            .collect();
        let document: serde_json::Value =
            serde_json::from_str(assets::OPENAPI).expect("openapi.json is JSON");
        assert_eq!(document["openapi"], "3.1.0");
        let paths = document["paths"].as_object().expect("paths");
        let mut described = BTreeSet::new();
        for (path, methods) in paths {
            for (method, operation) in methods.as_object().expect("methods") {
                assert!(operation["summary"].is_string(), "{method} {path}");
                assert!(operation["responses"].is_object(), "{method} {path}");
                let open = operation["security"].as_array().is_some_and(Vec::is_empty);
                let route = all().into_iter().find(|route| {
                    route.path == path && route.method.as_str().eq_ignore_ascii_case(method)
                });
                let who = route.map(|route| route.who);
                assert_eq!(
                    Some(open),
                    who.map(|who| who == For::All),
                    "{method} {path}"
                );
                described.insert((path.clone(), method.clone()));
            }
        }
        assert_eq!(served, described);
    }

    #[test]
    fn every_reference_of_the_description_leads_somewhere() {
        fn references(value: &serde_json::Value, found: &mut Vec<String>) {
            match value {
                serde_json::Value::Object(map) => {
                    for (key, value) in map {
                        match (key.as_str(), value.as_str()) {
                            ("$ref", Some(target)) => found.push(target.into()),
                            _ => references(value, found),
                        }
                    }
                }
                serde_json::Value::Array(list) => {
                    list.iter().for_each(|value| references(value, found));
                }
                _ => {}
            }
        }
        let document: serde_json::Value = serde_json::from_str(assets::OPENAPI).expect("JSON");
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for target in found {
            let pointer = target.strip_prefix('#').expect("a reference within");
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
    }
}
