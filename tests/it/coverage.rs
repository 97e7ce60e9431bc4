//! Forgetting is a test failure: every operation of `/openapi.json` stands in a table here, with who may call it; and the
//! table is tried out. Every change that is made over HTTP leaves an event.

mod mutations;

use std::collections::BTreeSet;

use portcullis::domain::operator::{Permission, Role};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use self::Needs::{Anyone, EnrollmentSecret, OAuthClient, Operator, Right, Worker};
use crate::support::cluster::Scratch;
use crate::support::service::{Answer, Service};

/// Who may call an operation.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Needs {
    /// An operator whose role permits it.
    Right(Permission),
    /// Any operator.
    Operator,
    /// The holder of a worker's credential.
    Worker,
    EnrollmentSecret,
    /// Whoever OAuth calls a client; refusals have OAuth's form.
    OAuthClient,
    /// On purpose. A line more here is a decision.
    Anyone,
}

const READ: Needs = Right(Permission::ReadFleet);
const MANAGE: Needs = Right(Permission::ManageFleet);
const OPERATORS: Needs = Right(Permission::ManageOperators);

const OPERATIONS: &[(&str, &str, Needs)] = &[
    ("GET", "/v1/pools", READ),
    ("POST", "/v1/pools", MANAGE),
    ("GET", "/v1/pools/{pool}", READ),
    ("PATCH", "/v1/pools/{pool}", MANAGE),
    ("DELETE", "/v1/pools/{pool}", MANAGE),
    ("GET", "/v1/workers", READ),
    ("POST", "/v1/workers", MANAGE),
    ("GET", "/v1/workers/{id}", READ),
    ("PATCH", "/v1/workers/{id}", MANAGE),
    ("DELETE", "/v1/workers/{id}", MANAGE),
    ("GET", "/v1/workers/{id}/sources", READ),
    ("POST", "/v1/workers/{id}/isolate", MANAGE),
    ("POST", "/v1/workers/{id}/release", MANAGE),
    ("POST", "/v1/workers/{id}/approve", MANAGE),
    ("POST", "/v1/workers/{id}/reject", MANAGE),
    ("GET", "/v1/workers/{id}/keys", READ),
    ("POST", "/v1/workers/{id}/keys", MANAGE),
    ("GET", "/v1/keys", READ),
    ("GET", "/v1/keys/{id}", READ),
    // Whose key it is says who may: an operator may rotate its own.
    ("POST", "/v1/keys/{id}/rotate", Operator),
    ("POST", "/v1/keys/{id}/revoke", Operator),
    ("GET", "/v1/enrollment-secrets", READ),
    ("POST", "/v1/enrollment-secrets", MANAGE),
    ("GET", "/v1/enrollment-secrets/{id}", READ),
    ("POST", "/v1/enrollment-secrets/{id}/rotate", MANAGE),
    ("POST", "/v1/enrollment-secrets/{id}/disable", MANAGE),
    ("GET", "/v1/signing-keys", READ),
    ("GET", "/v1/nodes/certificates", READ),
    ("POST", "/v1/signing-keys/rotate", Right(Permission::ManageSigningKeys)),
    ("GET", "/v1/operators", READ),
    ("POST", "/v1/operators", OPERATORS),
    ("GET", "/v1/operators/{id}", READ),
    ("PATCH", "/v1/operators/{id}", OPERATORS),
    ("DELETE", "/v1/operators/{id}", OPERATORS),
    ("GET", "/v1/operators/{id}/keys", READ),
    ("POST", "/v1/operators/{id}/keys", OPERATORS),
    ("GET", "/v1/fences", READ),
    ("POST", "/v1/fences", MANAGE),
    ("GET", "/v1/plans", READ),
    ("POST", "/v1/plans", MANAGE),
    ("GET", "/v1/plans/{id}", READ),
    ("GET", "/v1/plans/{id}/items", READ),
    ("POST", "/v1/plans/{id}/apply", MANAGE),
    ("GET", "/v1/netguard", Right(Permission::ReadNetguard)),
    ("POST", "/v1/netguard/addresses", MANAGE),
    ("DELETE", "/v1/netguard/addresses", MANAGE),
    ("POST", "/v1/plans/{id}/approve", MANAGE),
    ("POST", "/v1/plans/{id}/collect", MANAGE),
    ("GET", "/v1/readmissions", READ),
    ("GET", "/v1/readmissions/{id}", READ),
    ("POST", "/v1/readmissions/{id}/pause", MANAGE),
    ("POST", "/v1/readmissions/{id}/resume", MANAGE),
    ("POST", "/v1/readmissions/{id}/next", MANAGE),
    ("POST", "/v1/readmissions/{id}/rollback", MANAGE),
    ("GET", "/v1/plan-policy", READ),
    ("PATCH", "/v1/plan-policy", OPERATORS),
    ("GET", "/v1/incidents", READ),
    ("POST", "/v1/incidents", MANAGE),
    ("GET", "/v1/incidents/{id}", READ),
    ("PATCH", "/v1/incidents/{id}", MANAGE),
    ("POST", "/v1/incidents/{id}/notes", MANAGE),
    ("POST", "/v1/incidents/{id}/steps", MANAGE),
    ("POST", "/v1/incidents/{id}/close", MANAGE),
    ("GET", "/v1/webhooks", READ),
    ("POST", "/v1/webhooks", MANAGE),
    ("GET", "/v1/webhooks/{id}", READ),
    ("PATCH", "/v1/webhooks/{id}", MANAGE),
    ("DELETE", "/v1/webhooks/{id}", MANAGE),
    ("POST", "/v1/webhooks/{id}/test", MANAGE),
    ("POST", "/v1/scope", Right(Permission::ReadEvents)),
    ("GET", "/v1/incidents/{id}/replay", Right(Permission::ReadEvents)),
    ("GET", "/v1/incidents/{id}/report", Right(Permission::ReadEvents)),
    ("GET", "/v1/honey-keys", Right(Permission::ReadEvents)),
    ("POST", "/v1/honey-keys", MANAGE),
    ("DELETE", "/v1/honey-keys/{id}", MANAGE),
    ("GET", "/v1/tripwires", Right(Permission::ReadEvents)),
    ("PUT", "/v1/tripwires", OPERATORS),
    ("GET", "/v1/events", Right(Permission::ReadEvents)),
    ("GET", "/v1/nodes", READ),
    ("GET", "/v1/in-force/{position}", READ),
    ("GET", "/v1/projections", READ),
    ("GET", "/v1/projections/{id}", READ),
    ("POST", "/v1/projections/{id}/rebuild", MANAGE),
    // Who reads the log may ask whether the tables say the same.
    ("POST", "/v1/projections/{id}/verify", Right(Permission::ReadEvents)),
    ("GET", "/v1/whoami", Operator),
    ("POST", "/v1/validate", Right(Permission::Validate)),
    ("POST", "/v1/enroll", EnrollmentSecret),
    ("POST", "/v1/register", Worker),
    ("POST", "/v1/renew", Worker),
    ("GET", "/v1/worker", Worker),
    ("POST", "/v1/worker/key/rotate", Worker),
    ("POST", "/oauth2/token", OAuthClient),
    ("POST", "/oauth2/introspect", OAuthClient),
    ("POST", "/oauth2/revoke", OAuthClient),
    // A refusal of it goes to a proxy, which reads its status alone.
    ("GET", "/v1/check", Worker),
    ("POST", "/v1/compromised", Anyone),
    ("GET", "/.well-known/jwks.json", Anyone),
    ("GET", "/.well-known/oauth-authorization-server", Anyone),
    ("GET", "/.well-known/openid-configuration", Anyone),
    ("GET", "/healthz", Anyone),
    ("GET", "/readyz", Anyone),
    ("GET", "/metrics", Operator),
];

/// Every operation of the document: its method, its path, and what is said about it.
async fn document(service: &Service) -> Vec<(String, String, Value)> {
    let document = service.get("/openapi.json").await.expect(200);
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["get", "post", "put", "patch", "delete", "head", "options"] {
            if let Some(operation) = item.get(method) {
                operations.push((method.to_uppercase(), path.clone(), operation.clone()));
            }
        }
    }
    operations
}

/// A call of an operation on things that do not exist.
fn call(service: &Service, method: &str, path: &str) -> RequestBuilder {
    let id = if path.starts_with("/v1/workers") { "no-such" } else { "0000000000000000000001" };
    let path = path.replace("{pool}", "no-such").replace("{id}", id).replace("{position}", "0");
    let request = service.request(method.parse().unwrap(), &path);
    match method {
        "POST" | "PATCH" if path.starts_with("/oauth2") => {
            let form = if path == "/oauth2/token" { "grant_type=client_credentials" } else { "token=x" };
            request.header("Content-Type", "application/x-www-form-urlencoded").body(form)
        }
        "POST" | "PUT" | "PATCH" => request.json(&json!({})),
        _ => request,
    }
}

/// A new operator's key.
async fn operator(service: &Service, role: Role) -> String {
    let made = service.post("/v1/operators", json!({ "name": role.as_str(), "role": role.as_str() })).await.expect(201);
    made["key"].as_str().unwrap().to_owned()
}

/// A new worker's key.
async fn worker(service: &Service) -> String {
    let worker = service.post("/v1/workers", json!({})).await.expect(201);
    let path = format!("/v1/workers/{}/keys", worker["id"].as_str().unwrap());
    service.post(&path, json!({})).await.expect(201)["key"].as_str().unwrap().to_owned()
}

async fn enrollment_secret(service: &Service) -> String {
    let made = service.post("/v1/enrollment-secrets", json!({ "pool": "default" })).await.expect(201);
    made["secret"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_is_in_the_table_and_refuses_whoever_presents_nothing() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let named: BTreeSet<(String, String)> =
        document(&service).await.into_iter().map(|(method, path, _)| (method, path)).collect();
    let listed: BTreeSet<(String, String)> =
        OPERATIONS.iter().map(|(method, path, _)| (method.to_string(), path.to_string())).collect();
    assert_eq!(named, listed, "an operation without a line in OPERATIONS, or a line without its operation");

    let refused = service.send(service.request(Method::GET, "/v1/pools")).await;
    for (method, path, needs) in OPERATIONS {
        let answer = service.send(call(&service, method, path)).await;
        let name = format!("{method} {path} answered {answer:?}");
        match needs {
            Anyone => assert!(!matches!(answer.status.as_u16(), 401 | 403), "{name}"),
            OAuthClient => {
                assert_eq!(answer.expect(401)["error"], "invalid_client", "{name}");
                assert!(answer.headers.contains_key("www-authenticate"), "{name}");
            }
            _ if *path == "/v1/check" => assert_eq!((answer.status.as_u16(), &*answer.text), (401, ""), "{name}"),
            _ => assert_eq!((answer.status.as_u16(), &answer.text), (401, &refused.text), "{name}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_is_forbidden_to_the_roles_that_may_not() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    for role in Role::ALL {
        let key = operator(&service, role).await;
        for (method, path, needs) in OPERATIONS {
            let answer = || async { service.send(call(&service, method, path).bearer_auth(&key)).await };
            let name = format!("{role}: {method} {path}");
            match needs {
                Right(permission) if !role.permits(*permission) => {
                    let answer = answer().await;
                    assert_eq!(answer.problem(403), "not_permitted", "{name}: {answer:?}");
                    if !matches!(*method, "GET") {
                        let dry = call(&service, method, &format!("{path}?dry_run=true")).bearer_auth(&key);
                        let dry = service.send(dry).await;
                        let answers = (dry.status.as_u16(), path.starts_with("/v1/"));
                        // Where there is no dry run, it is that which it is refused for.
                        assert!(matches!(answers, (403, true) | (400, _)), "{name}, a dry run: {dry:?}");
                    }
                }
                Right(_) => {
                    let answer = answer().await;
                    // What it asks for does not exist; that it may ask is what counts.
                    assert!(!matches!(answer.status.as_u16(), 401 | 403 | 500..), "{name}: {answer:?}");
                }
                // Whether it may is a question of whose thing it is, and none of these is anybody's.
                Operator => {
                    let answer = answer().await;
                    assert!(!matches!(answer.status.as_u16(), 401 | 500..), "{name}: {answer:?}");
                }
                // An operator is no worker; and has a form of its own to be refused in, tested above.
                Worker | EnrollmentSecret | OAuthClient | Anyone => {}
            }
        }
    }
}

/// A genuine credential of another kind is not accepted, and is told no more than a wrong one.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_the_wrong_kind_are_refused() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let refused = service.send(service.request(Method::GET, "/v1/pools")).await;
    for (method, path, needs) in OPERATIONS {
        let wrong = match needs {
            // One each: who fails too often with one credential is told to wait.
            Right(_) | Operator | EnrollmentSecret => worker(&service).await,
            Worker if *path != "/v1/check" => operator(&service, Role::Admin).await,
            Worker | OAuthClient | Anyone => continue,
        };
        let answer = service.send(call(&service, method, path).bearer_auth(&wrong)).await;
        // Any holder may ask who it is.
        if *path == "/v1/whoami" {
            answer.expect(200);
            continue;
        }
        assert_eq!((answer.status.as_u16(), &answer.text), (401, &refused.text), "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_and_parameters_are_refused_everywhere() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let (worker, enrollment) = (worker(&service).await, enrollment_secret(&service).await);
    for (method, path, operation) in document(&service).await {
        let (_, _, needs) = OPERATIONS.iter().find(|it| it.0 == method && it.1 == path).unwrap();
        let caller = match needs {
            Worker => &worker,
            EnrollmentSecret => &enrollment,
            Right(_) | Operator | OAuthClient | Anyone => &service.token,
        };
        let refuses = |answer: &Answer| {
            assert_eq!(answer.status.as_u16(), 400, "{method} {path}: {answer:?}");
        };
        if operation["requestBody"]["content"].get("application/json").is_some() {
            let request = call(&service, &method, &path).bearer_auth(caller).json(&json!({ "no_such_field": 1 }));
            refuses(&service.send(request).await);
        }
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        if parameters.iter().any(|parameter| parameter["in"] == "query")
            && path.starts_with("/v1/")
            && path != "/v1/check"
        {
            let request = call(&service, &method, &format!("{path}?no_such_parameter=1")).bearer_auth(caller);
            refuses(&service.send(request).await);
        }
    }
}
