package mongostore

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"

	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// errAuthorities is the error of text after a connection string that is not certificates.
var errAuthorities = errors.New("mongodb: what follows the connection string is not certificates in PEM")

// errNoTLS is the error of certificates that nothing would use.
var errNoTLS = errors.New("mongodb: certificates follow a connection string without tls=true")

// trust lets connections trust the authorities of the certificates beside those of the system.
// Those that sign for DocumentDB are in no system's list.
func trust(o *options.ClientOptions, certificates string) error {
	rest := bytes.TrimSpace([]byte(certificates))
	if len(rest) == 0 {
		return nil
	}
	if o.TLSConfig == nil {
		return errNoTLS
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return errors.New("mongodb: the system's list of authorities cannot be read")
	}
	for len(rest) > 0 {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return errAuthorities
		}
		authority, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return errAuthorities
		}
		pool.AddCert(authority)
		rest = bytes.TrimSpace(rest)
	}
	o.TLSConfig.RootCAs = pool
	return nil
}
