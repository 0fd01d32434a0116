//! What is between: names, connections, TLS, proxies, redirects.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use coworks_biz::local::axum::Router;
use coworks_biz::local::axum::extract::Request;
use coworks_biz::local::axum::http::Version;
use coworks_biz::local::axum::routing::any;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::server::{Server, Then, raw, run, say};
use crate::harness::{TOKEN, World};

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_there_or_not_in_time_is_told_with_the_reason() {
    let world = World::new(Router::new()).await;
    let gateway = Server::start(|heard| match heard.case() {
        "slow" => raw("", Then::Hang),
        _ => raw("HTTP/1.1 200 x\r\ncontent-length: 10\r\n\r\n[", Then::Hang),
    })
    .await;
    let (ended, result) = run(&world, &gateway.url(), &["unreached"], &[]).await;
    assert_eq!(ended.code(), 1, "{ended:?}");
    let url = gateway.url();
    let error = result.error("refused");
    assert!(error.starts_with("GET http://127.0.0.1:1/ got no answer: nobody listens there ("), "{error}");
    let error = result.error("unknown");
    assert!(
        error.starts_with("GET http://nobody.invalid/dev/ got no answer: no such host is known: "),
        "{error}"
    );
    let longer = "not there within 300ms; `request_timeout` gives it more, and `tech!(async ..)` waits without a connection";
    assert_eq!(result.error("slow"), format!("GET {url}/dev/slow of `test` got no answer: {longer}"));
    assert_eq!(
        result.error("broken"),
        format!("GET {url}/dev/broken of `test` answered 200, and broke off: {longer}")
    );
    let logs = world.run(&["logs", "--task", "slow"]).await.stdout;
    assert!(logs.trim_end().ends_with("no other try: its `retries` are 0"), "{logs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_elsewhere_is_refused_and_one_within_followed() {
    let world = World::new(Router::new()).await;
    let elsewhere = Server::start(|_| say(200, "", "1")).await;
    let away = format!("location: {}/first\r\n", elsewhere.url());
    for (status, location, fine) in
        [(302, away.as_str(), false), (307, &away, false), (302, "location: /here/first\r\n", true)]
    {
        let location = location.to_owned();
        let gateway = Server::start(move |heard| match heard.path() {
            "/here/first" => say(200, "", "1"),
            _ => say(status, &location, ""),
        })
        .await;
        let (ended, result) = run(&world, &gateway.url(), &["many", "--conf", "0"], &[]).await;
        assert_eq!(ended.code(), i32::from(!fine), "{ended:?}");
        if fine {
            let followed = &gateway.heard()[1];
            assert_eq!((&*followed.line, followed.header("authorization")), ("GET /here/first", Some(TOKEN)));
        } else {
            let error = result.error("first");
            assert!(
                error.contains("it redirects to another host, http://127.0.0.1:")
                    && error.ends_with(": give the service its address there"),
                "{error}"
            );
            let logs = world.run(&["logs"]).await.stdout;
            assert!(logs.contains("no other try"), "{logs}");
        }
    }
    assert_eq!(elsewhere.connections(), 0, "nobody went there");
}

/// A gateway behind TLS, with a certificate of its own making.
struct Encrypted {
    port: u16,
    /// Its certificate.
    pem: String,
    versions: Arc<Mutex<Vec<Version>>>,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

async fn encrypted(protocols: &[&str]) -> Encrypted {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut tls = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    tls.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (versions, connections) = <(Arc<Mutex<Vec<Version>>>, Arc<AtomicUsize>)>::default();
    let (kept, counted) = (Arc::clone(&versions), Arc::clone(&connections));
    let entry = move |request: Request| {
        kept.lock().unwrap().push(request.version());
        async { Ok::<_, Infallible>("1") }
    };
    let service = TowerToHyperService::new(Router::new().fallback(any(entry)));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut talks = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, service, counted) = (acceptor.clone(), service.clone(), Arc::clone(&counted));
            talks.spawn(async move {
                // Who does not trust the certificate hangs up.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                counted.fetch_add(1, Ordering::SeqCst);
                drop(
                    auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await,
                );
            });
        }
    });
    Encrypted { port, pem: made.cert.pem(), versions, connections, _tasks: tasks }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_serves_many_calls_and_speaks_http_2_where_both_can() {
    let world = World::new(Router::new()).await;
    for (protocols, version) in
        [(&["h2", "http/1.1"][..], Version::HTTP_2), (&["http/1.1"], Version::HTTP_11)]
    {
        let gateway = encrypted(protocols).await;
        std::fs::write(world.path("ca.pem"), &gateway.pem).unwrap();
        let url = format!("https://localhost:{}/{{api_id}}", gateway.port);
        let ca = world.path("ca.pem");
        let env = [("SSL_CERT_FILE", ca.to_str().unwrap()), ("COWORKS_BIZ_PARALLELISM", "1")];
        let (ended, result) = run(&world, &url, &["many", "--conf", "20"], &env).await;
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert_eq!(result.values("each"), [&json!(1); 20]);
        assert_eq!(*gateway.versions.lock().unwrap(), [version; 21]);
        assert_eq!(gateway.connections.load(Ordering::SeqCst), 1, "{version:?}");
    }
    // Over HTTP/2 one connection is enough for as many as there are at once.
    let gateway = encrypted(&["h2"]).await;
    std::fs::write(world.path("ca.pem"), &gateway.pem).unwrap();
    let url = format!("https://localhost:{}/{{api_id}}", gateway.port);
    let ca = world.path("ca.pem");
    let (ended, _) =
        run(&world, &url, &["many", "--conf", "50"], &[("SSL_CERT_FILE", ca.to_str().unwrap())]).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(gateway.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_nobody_vouches_for_is_refused_with_what_to_do() {
    let world = World::new(Router::new()).await;
    let gateway = encrypted(&["h2", "http/1.1"]).await;
    let url = format!("https://localhost:{}", gateway.port);
    // Those of the system; another one of the same name; another one.
    let same = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    let mut other = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    other.distinguished_name.push(rcgen::DnType::CommonName, "another");
    let other = other.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
    let ca = world.path("other.pem");
    for trusted in [None, Some(same), Some(other)] {
        let mut env = vec![];
        if let Some(trusted) = trusted {
            std::fs::write(&ca, trusted).unwrap();
            env.push(("SSL_CERT_FILE", ca.to_str().unwrap()));
        }
        let (ended, result) = run(&world, &url, &["many", "--conf", "0"], &env).await;
        assert_eq!(ended.code(), 1, "{ended:?}");
        let error = result.error("first");
        let told = "got no answer: its certificate is of an issuer that is not trusted here: ";
        assert!(error.contains(told) && error.contains("SSL_CERT_FILE"), "{error}");
    }
    assert_eq!(*gateway.versions.lock().unwrap(), []);

    // The right issuer, and another name.
    std::fs::write(&ca, &gateway.pem).unwrap();
    let url = format!("https://127.0.0.1:{}", gateway.port);
    let (_, result) =
        run(&world, &url, &["many", "--conf", "0"], &[("SSL_CERT_FILE", ca.to_str().unwrap())]).await;
    let error = result.error("first");
    assert!(error.contains("certificate not valid for name"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_used_where_the_environment_names_one() {
    let world = World::new(Router::new()).await;
    let proxy = Server::start(|heard| match heard.line.starts_with("CONNECT ") {
        true => raw("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", Then::Close),
        false => say(200, "", "1"),
    })
    .await;
    let (url, gateway) = (proxy.url(), "http://gateway.invalid/{api_id}");
    let (ended, _) = run(&world, gateway, &["many", "--conf", "0"], &[("HTTP_PROXY", &url)]).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(proxy.heard()[0].line, "GET http://gateway.invalid/test/dev/first");

    // A proxy that is not there is not taken for the service.
    let env = [("HTTP_PROXY", "http://127.0.0.1:1"), ("HTTPS_PROXY", &*url)];
    let (_, result) = run(&world, gateway, &["many", "--conf", "0"], &env).await;
    let error = result.error("first");
    assert!(error.ends_with(" (HTTP_PROXY is set: it may be of the proxy)"), "{error}");

    let env = [("HTTP_PROXY", &*url), ("NO_PROXY", "gateway.invalid")];
    let (_, result) = run(&world, gateway, &["many", "--conf", "0"], &env).await;
    let error = result.error("first");
    assert!(error.contains("no such host is known"), "{error}");
    assert_eq!(proxy.heard().len(), 1);

    // API Gateway itself, at its own address.
    let (_, result) = run(&world, "", &["many", "--conf", "0"], &[("HTTPS_PROXY", &url)]).await;
    assert_eq!(proxy.heard()[1].line, "CONNECT test.execute-api.eu-west-1.amazonaws.com:443");
    assert_eq!(proxy.heard()[1].header("authorization"), None, "the token is for the gateway");
    let error = result.error("first");
    let begin = "GET https://test.execute-api.eu-west-1.amazonaws.com/dev/first of `test` got no answer: ";
    assert!(error.starts_with(begin) && error.contains("the proxy of the environment"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_uses_the_proxy_of_the_environment_too() {
    let world = World::new(Router::new()).await;
    let gateway = Server::start(|_| say(200, "", "")).await;
    let proxy = Server::start(|heard| match heard.line.split(' ').next().unwrap() {
        "GET" => say(
            200,
            "",
            r#"{"statusCode": 200, "headers": {}, "body": "by proxy", "isBase64Encoded": false}"#,
        ),
        _ => raw("HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n", Then::Keep),
    })
    .await;
    let env = [
        ("HTTP_PROXY", &*proxy.url()),
        ("NO_PROXY", "127.0.0.1"),
        ("AWS_ENDPOINT_URL_S3", "http://s3.invalid"),
    ];
    let (ended, result) = run(&world, &gateway.url(), &["asynchronous"], &env).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(result.value("answer.read"), "by proxy");
    assert!(
        proxy.heard().iter().all(|heard| heard.path().starts_with("http://s3.invalid/coworks-airflow")),
        "{:?}",
        proxy.heard()
    );
}
