//! TLS keys and passwords of web servers and their clients.

use super::Stage;

/// Makes a new key and certificate with this serial number in `$T/tls.key` and `$T/tls.crt`.
pub(crate) const CERTIFICATE: &str = r#"
certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
        -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -set_serial $1 \
        -keyout $T/tls.key -out $T/tls.crt 2> /dev/null
}
serial() {
    openssl s_client -connect 127.0.0.1:$1 ${2-} < /dev/null 2> /dev/null |
        openssl x509 -noout -serial 2> /dev/null
}
"#;

#[test]
fn openssl_signs_with_a_key_from_the_mount() {
    let Some(stage) = Stage::with(&["openssl"]) else { return };
    stage.put("signer/key", "none yet", "alice");
    stage.run(&format!(
        r#"{CERTIFICATE}
        certificate 1
        cat $T/tls.key > $S/signer/key
        echo message > $T/message
        as 2100 openssl dgst -sha256 -sign $S/signer/key $T/message > $T/signature
        openssl x509 -in $T/tls.crt -noout -pubkey > $T/public
        openssl dgst -sha256 -verify $T/public -signature $T/signature $T/message
        if as 2200 openssl pkey -in $S/signer/key -noout 2> /dev/null; then exit 1; fi"#
    ));
}

#[test]
fn nginx_serves_a_key_that_was_rotated_after_a_reload() {
    let Some(stage) = Stage::with(&["nginx", "openssl", "ip"]) else { return };
    // nginx 1.27 keeps a key whose inode and mtime did not change; both change with every version.
    let said = stage.run(&format!(
        r#"{CERTIFICATE}
        mkdir $S/web $T/web
        put() {{ cat $T/tls.key > $S/web/tls.key; cat $T/tls.crt > $S/web/tls.crt; }}
        certificate 0x11; put
        cat > $T/nginx.conf <<-X
            daemon off; pid $T/nginx.pid; error_log $T/nginx.log; user www-data;
            events {{}}
            http {{
                access_log off; client_body_temp_path $T/web; proxy_temp_path $T/web;
                fastcgi_temp_path $T/web; uwsgi_temp_path $T/web; scgi_temp_path $T/web;
                server {{
                    listen 127.0.0.1:443 ssl;
                    ssl_certificate $S/web/tls.crt; ssl_certificate_key $S/web/tls.key;
                }}
            }}
X
        nginx -e $T/nginx.log -c $T/nginx.conf &
        eventually serial 443
        for next in 0x22 0x33; do
            # Both at once in the same second, as a tool for certificates does.
            certificate $next; put
            nginx -e $T/nginx.log -c $T/nginx.conf -s reload
            # The workers of before may take one more connection after the first of the new ones.
            eventually bash -c "$(declare -f serial); serial 443 | grep -x serial=${{next#0x}}"
        done
        kill %1; wait"#
    ));
    assert_eq!(said, "serial=11\nserial=22\nserial=33\n");
}

/// A web server that wants a password.
const SERVER: &str = r#"
cat > $T/server.py <<'X'
import base64, http.server, sys
want = "Basic " + base64.b64encode(b"alice:open sesame").decode()
class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.headers.get("Authorization") == want:
            return super().do_GET()
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="test"')
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", 80), Handler).serve_forever()
X
mkdir -p $T/served; cd $T/served; python3 $T/server.py & cd /
eventually bash -c '</dev/tcp/127.0.0.1/80' 2> /dev/null
"#;

#[test]
fn curl_takes_its_password_from_a_netrc_file() {
    let Some(stage) = Stage::with(&["curl", "python3", "ip"]) else { return };
    stage.put("alice/netrc", "machine 127.0.0.1 login alice password \"open sesame\"\n", "alice");
    let said = stage.run(&format!(
        r#"{SERVER}
        echo welcome > $T/served/page
        as 2100 curl -sS --noproxy '*' --fail --netrc-file $S/alice/netrc http://127.0.0.1/page
        if as 2200 curl -sS --noproxy '*' --fail --netrc-file $S/alice/netrc \
            http://127.0.0.1/page 2> /dev/null; then exit 1; fi"#
    ));
    assert_eq!(said, "welcome\n");
}

#[test]
fn git_clones_with_a_credential_from_the_mount() {
    let Some(stage) = Stage::with(&["git", "python3", "ip"]) else { return };
    stage.put("alice/git-credentials", "http://alice:open%20sesame@127.0.0.1\n", "alice");
    let said = stage.run(&format!(
        r#"{SERVER}
        cd $T/served
        export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t
        git init -q work && echo content > work/file && git -C work add file
        git -C work commit -q -m first
        git clone -q --bare work repository.git && git -C repository.git update-server-info
        cd /
        as 2100 env HOME=$T no_proxy='*' GIT_TERMINAL_PROMPT=0 \
            git -c credential.helper="store --file=$S/alice/git-credentials" \
            clone -q http://127.0.0.1/repository.git $T/clone
        cat $T/clone/file"#
    ));
    assert_eq!(said, "content\n");
}
