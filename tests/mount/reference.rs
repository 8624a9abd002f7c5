//! Every YAML block of the description that the service began with, as it stands there, but with
//! real sealed values in the place of made-up ones.

use crate::harness::{Mount, ROOT};
use crate::user::User;

/// `SEALED(value)` stands for the sealed form of a value under the key above it.
const BLOCKS: [(&str, &str); 8] = [
    (
        "entity.yaml",
        r#"id: "secr_eG8IvKwB0A"
key: "MY_API_KEY"
value: "nNl4X9+@95Z"

# Slugs of services and users who can read the secret
readers:
  - "alice"
  - "bob"

# Slugs of services and users who can modify the secret
writers:
  - "alice"
  - "bob"

# Slugs of services and users who can delete the secret
deleters:
  - "service-admin"

# Slugs of services and users who can change the "readers" list
canChangeReaders:
  - "alice"

# Slugs of services and users who can change the "writers" list
canChangeWriters:
  - "alice"

# Slugs of services and users who can change the "deleters" list
canChangeDeleters:
  - "alice"
"#,
    ),
    (
        "my-api-key.yaml",
        r#"id: "secr_eR6LbYOBK2"
key: "example-key"
value: "SEALED(example-value)"
encrypted: true
checksum: "45a3b25f"
checksumAlgorithm: "CRC32"
"#,
    ),
    (
        "production-api-key.yaml",
        r#"# production-api-key.yaml
id: "secr_prod_api_001"
key: "PRODUCTION_API_KEY"
value: "SEALED(example-value)"
encrypted: true
checksum: "45a3b25f"
checksumAlgorithm: "CRC32"

# Access control
readers:
  - "payment-svc"
  - "order-svc"
  - "admin-team"

writers:
  - "admin-team"
  - "devops-team"

deleters:
  - "admin-team"

# Permission management
canChangeReaders:
  - "admin-team"
canChangeWriters:
  - "admin-team"
canChangeDeleters:
  - "admin-team"
"#,
    ),
    (
        "application-secrets.yaml",
        r#"# application-secrets.yaml
- id: "secr_db_primary"
  key: "DATABASE_URL"
  value: "SEALED(encrypted-connection-string)"
  encrypted: true
  readers: ["api-svc", "worker-svc"]
  writers: ["admin-team"]

- id: "secr_redis_cache"
  key: "REDIS_URL"
  value: "redis://localhost:6379"
  encrypted: false
  readers: ["api-svc", "cache-svc"]
  writers: ["devops-team"]

- id: "secr_jwt_signing"
  key: "JWT_SECRET"
  value: "SEALED(encrypted-jwt-key)"
  encrypted: true
  readers: ["auth-svc"]
  writers: ["security-team"]
"#,
    ),
    (
        "auth-service-secrets.yaml",
        r#"# auth-service-secrets.yaml
- key: "auth-svc/DATABASE_URL"
  value: "SEALED(encrypted-db-connection)"
  encrypted: true
  readers: ["auth-svc"] # Only auth service can read
  writers: ["devops-team"] # Only devops can update
  deleters: ["admin-team"] # Only admins can delete

- key: "auth-svc/JWT_SECRET"
  value: "SEALED(encrypted-jwt-key)"
  encrypted: true
  readers: ["auth-svc", "api-gateway"] # Both services need access
  writers: ["security-team"]
  deleters: ["security-team"]
"#,
    ),
    (
        "shared-infrastructure-secrets.yaml",
        r#"# shared-infrastructure-secrets.yaml
- key: "MONITORING_API_KEY"
  value: "SEALED(encrypted-monitoring-key)"
  encrypted: true
  readers: ["platform-team", "sre-team", "monitoring-svc"]
  writers: ["platform-team"]
  deleters: ["platform-team"]
  canChangeReaders: ["platform-team", "sre-team"] # Both teams can add readers
  canChangeWriters: ["platform-team"] # Only platform team controls writers
"#,
    ),
    (
        "shared-service-secrets.yaml",
        r#"# shared-service-secrets.yaml
- key: "shared/DATABASE_URL"
  value: "SEALED(encrypted-shared-db-connection)"
  encrypted: true
  readers:
    - "auth-svc"
    - "user-svc"
    - "payment-svc"
    - "order-svc"
  writers: ["dba-team"]
  deleters: ["admin-team"]

- key: "shared/REDIS_URL"
  value: "SEALED(encrypted-redis-connection)"
  encrypted: true
  readers:
    - "cache-svc"
    - "session-svc"
    - "rate-limiter-svc"
  writers: ["infrastructure-team"]
"#,
    ),
    (
        "least-privilege.yaml",
        r#"# Give minimum necessary access
- key: "payment-svc/STRIPE_KEY"
  readers: ["payment-svc"] # Only payment service
  writers: ["payment-admin"] # Only payment administrators
  deleters: ["security-team"] # Only security team can delete
"#,
    ),
];

/// Key, value and id, where one is given, of everything above.
const SECRETS: [(&str, &str, Option<&str>); 12] = [
    ("MY_API_KEY", "nNl4X9+@95Z", Some("secr_eG8IvKwB0A")),
    ("example-key", "example-value", Some("secr_eR6LbYOBK2")),
    ("PRODUCTION_API_KEY", "example-value", Some("secr_prod_api_001")),
    ("DATABASE_URL", "encrypted-connection-string", Some("secr_db_primary")),
    ("REDIS_URL", "redis://localhost:6379", Some("secr_redis_cache")),
    ("JWT_SECRET", "encrypted-jwt-key", Some("secr_jwt_signing")),
    ("auth-svc/DATABASE_URL", "encrypted-db-connection", None),
    ("auth-svc/JWT_SECRET", "encrypted-jwt-key", None),
    ("MONITORING_API_KEY", "encrypted-monitoring-key", None),
    ("shared/DATABASE_URL", "encrypted-shared-db-connection", None),
    ("shared/REDIS_URL", "encrypted-redis-connection", None),
    ("payment-svc/STRIPE_KEY", "", None),
];

/// The block with what `SEALED(…)` stands for.
fn with_sealed_values(user: &User, block: &str) -> String {
    let mut key = String::new();
    let mut text = String::new();
    for line in block.lines() {
        let field = line.trim_start_matches(['-', ' ']);
        if let Some(written) = field.strip_prefix("key: ") {
            written.trim_matches('"').clone_into(&mut key);
        }
        match line.split_once("SEALED(") {
            Some((before, rest)) => {
                let (value, after) = rest.split_once(')').expect("it is closed");
                text += &format!("{before}{}{after}\n", user.sealed_value(&key, value));
            }
            None => text += &format!("{line}\n"),
        }
    }
    text
}

#[test]
fn every_block_is_imported_and_comes_back() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.sh_ok("mkdir $T/blocks");
    for (name, block) in BLOCKS {
        let text = with_sealed_values(&root, block);
        std::fs::write(mount.outside().join("blocks").join(name), text).unwrap();
    }
    root.sh_ok("cp -r $T/blocks .import/");
    check(&root);
    for (name, _) in BLOCKS {
        let report = root.report(&format!("blocks/{name}"));
        assert!(report.lines().all(|line| line.contains(": created")), "{name}: {report}");
    }
    let lists = root.lists("MONITORING_API_KEY");
    assert_eq!(lists["canChangeReaders"], ["platform-team", "sre-team"]);
    assert_eq!(lists["readers"], ["platform-team", "sre-team", "monitoring-svc"]);
    assert!(lists["canChangeDeleters"].is_empty(), "an admin's new secret");
    root.sh_ok("cp $T/blocks/*.yaml .import/");
    let report = root.report("application-secrets.yaml");
    assert_eq!(report.matches(": unchanged\n").count(), 3, "{report}");

    // Exported, and imported where there is nothing.
    root.sh_ok("cp .export.yaml $T/all.yaml");
    let empty = Mount::prepare().expect("this one mounts too").started();
    let other = empty.user(ROOT);
    let all = std::fs::read(mount.outside().join("all.yaml")).unwrap();
    other.import("all.yaml", all).unwrap();
    check(&other);
    for (key, ..) in SECRETS {
        assert_eq!((other.id(key), other.lists(key)), (root.id(key), root.lists(key)), "{key}");
    }
}

#[track_caller]
fn check(root: &User) {
    for (key, value, id) in SECRETS {
        assert_eq!(root.read(key).as_deref(), Ok(value), "{key}");
        if let Some(id) = id {
            assert_eq!(root.id(key), id);
        }
    }
}
