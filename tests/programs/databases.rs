//! Databases and caches, which check who owns their keys.

use super::Stage;
use super::web::CERTIFICATE;
use crate::harness::skip;

#[test]
fn postgresql_takes_its_key_and_psql_its_password() {
    // Debian puts the server's programs elsewhere: psql being there is no sign of them.
    let Some(server) = server() else {
        return skip("needs a PostgreSQL server");
    };
    let Some(stage) = Stage::with(&["psql", "openssl", "ip"]) else { return };
    // The server: a key that root owns has at most the mode 0640. The client: a password file that
    // group and others may not read. Then another key, and a reload.
    stage.put("postgres/password", "open sesame\n", "www-data");
    stage.put("alice/pgpass", "127.0.0.1:*:*:admin:open sesame\n", "alice");
    stage.put("postgres/server.key", "none yet", "www-data");
    stage.put("postgres/server.crt", "none yet", "www-data, alice");
    let said = stage.run(&format!(
        r#"{CERTIFICATE}
        export PATH={server}:$PATH
        put() {{ cat $T/tls.key > $S/postgres/server.key; cat $T/tls.crt > $S/postgres/server.crt; }}
        certificate 0x11; put
        as 33 initdb -D $T/data -U admin -A scram-sha-256 --pwfile=$S/postgres/password -N > $T/log
        cat >> $T/data/postgresql.conf <<-X
            listen_addresses = '127.0.0.1'
            unix_socket_directories = ''
            ssl = on
            ssl_key_file = '$S/postgres/server.key'
            ssl_cert_file = '$S/postgres/server.crt'
X
        as 33 pg_ctl -D $T/data -l $T/data/log -w start > $T/log || {{ cat $T/data/log >&2; exit 1; }}
        query() {{ as 2100 env PGPASSFILE=$S/alice/pgpass PGSSLROOTCERT=$S/postgres/server.crt \
            psql -w -h 127.0.0.1 -U admin -d postgres "sslmode=verify-full" -Atc "$1"; }}
        query 'select 40 + ssl::int * 2 from pg_stat_ssl where pid = pg_backend_pid()'
        serial 5432 '-starttls postgres'
        certificate 0x22; put
        as 33 pg_ctl -D $T/data reload > $T/log
        eventually bash -c "$(declare -f serial); serial 5432 '-starttls postgres' | grep -q 22"
        query 'select 1'
        as 33 pg_ctl -D $T/data -m immediate -w stop > $T/log"#
    ));
    assert_eq!(said, "42\nserial=11\n1\n");
}

/// The directory of the server's programs.
fn server() -> Option<String> {
    let directories = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let directory = directories.flatten().map(|entry| entry.path().join("bin"));
    directory.filter(|bin| bin.join("initdb").exists()).map(|bin| bin.display().to_string()).max()
}

#[test]
fn redis_takes_its_password_from_an_included_file() {
    let Some(stage) = Stage::with(&["redis-server", "redis-cli", "ip"]) else { return };
    stage.put("payment-svc/redis.conf", "requirepass open-sesame\n", "payment-svc");
    let said = stage.run(
        r#"
        as 2001 redis-server --port 6379 --bind 127.0.0.1 --save '' --dir $T \
            --include $S/payment-svc/redis.conf > $T/log &
        eventually redis-cli ping > /dev/null
        redis-cli ping
        REDISCLI_AUTH=open-sesame redis-cli ping"#,
    );
    assert_eq!(said, "NOAUTH Authentication required.\n\nPONG\n");
}

#[test]
fn memcached_takes_its_password_file() {
    let Some(stage) = Stage::with(&["memcached", "ip"]) else { return };
    stage.put("payment-svc/memcached", "alice:sesame\n", "payment-svc");
    let said = stage.run(
        r#"
        as 2001 memcached -l 127.0.0.1 -p 11211 -Y $S/payment-svc/memcached &
        eventually bash -c '</dev/tcp/127.0.0.1/11211' 2> /dev/null
        talk() { exec 3<>/dev/tcp/127.0.0.1/11211; printf "$1" >&3; timeout 5 head -n1 <&3; exec 3>&-; }
        talk 'set auth 0 0 11\r\nalice wrong\r\n'
        talk 'set auth 0 0 12\r\nalice sesame\r\n'"#,
    );
    assert_eq!(said, "CLIENT_ERROR authentication failure\r\nSTORED\r\n");
}
