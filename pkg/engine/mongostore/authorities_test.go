package mongostore_test

import (
	"crypto/tls"
	"encoding/pem"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
)

// private is a server whose certificate no system trusts, as that of DocumentDB.
type private struct{ host, authority string }

func newPrivate(t *testing.T) private {
	t.Helper()
	web := httptest.NewTLSServer(nil) // for its certificate
	web.Close()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	g := &guarded{}
	serveConns(t, listener, func(conn net.Conn) {
		for g.exchange(conn) == nil {
		}
	})
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	return private{listener.Addr().String(), string(authority)}
}

func TestCertificatesAfterTheConnectionStringAreTrusted(t *testing.T) {
	server := newPrivate(t)
	uri := "mongodb://" + server.host + "/?tls=true&directConnection=true"
	for name, c := range map[string]struct {
		uri   string
		works bool
	}{
		"its authority":               {uri + "\n" + server.authority, true},
		"several":                     {uri + "\r\n" + server.authority + "\n" + server.authority + "\n", true},
		"none":                        {uri + "\n", false},
		"the authority, not the name": {strings.Replace(uri, "127.0.0.1", "localhost", 1) + "\n" + server.authority, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // a server that cannot be reached takes five seconds
			err := open(t, c.uri, "ocelot").Ping(t.Context())
			if got := err == nil; got != c.works {
				t.Errorf("got the error %v, want the server reached: %t", err, c.works)
			}
		})
	}
}

func TestTextAfterTheConnectionStringMustBeCertificates(t *testing.T) {
	server := newPrivate(t)
	uri := "mongodb://" + server.host + "/"
	for name, c := range map[string]struct{ uri, want string }{
		"no TLS":             {uri + "\n" + server.authority, "without tls=true"},
		"no certificate":     {uri + "?tls=true\nsecret-text", "is not certificates in PEM"},
		"text after one":     {uri + "?tls=true\n" + server.authority + "secret-text", "is not certificates in PEM"},
		"another kind":       {uri + "?tls=true\n" + strings.ReplaceAll(server.authority, "CERTIFICATE", "PUBLIC KEY"), "is not certificates in PEM"},
		"a damaged one":      {uri + "?tls=true\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "is not certificates in PEM"},
		"a line of the text": {uri + "?tls=true&\nx=secret-text", "is not certificates in PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := mongostore.Open(c.uri, "ocelot")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got the error %v, want %q", err, c.want)
			}
			if strings.Contains(err.Error(), "secret-text") {
				t.Errorf("got the error %v, want it without what is secret", err)
			}
		})
	}
}
