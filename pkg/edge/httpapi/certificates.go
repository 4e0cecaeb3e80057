package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/certificate"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// GetCertificate answers GET /certificates/{id}. It asks for no credential: whoever knows the id may
// read the certificate. An id that is malformed is answered as an absent one.
func GetCertificate(gate *Gate, certificates certificate.Store) http.Handler {
	return gate.endpoint("get-certificate", func(req *request) (*response, error) {
		text, err := readCertificate(req, certificates)
		if err != nil {
			return nil, explain(err, audit.ErrNotFound, ProblemNotFound, "There is no certificate with this id.")
		}
		statement, err := certificate.Payload(text)
		if err != nil {
			return nil, fmt.Errorf("read a certificate: %w", err)
		}
		w := writer{b: make([]byte, 0, 2*len(text))}
		w.open('{')
		w.name("statement")
		w.b = append(w.b, statement...)
		w.text("certificate", text)
		w.close('}')
		return jsonResponse(http.StatusOK, &w), nil
	})
}

func readCertificate(req *request, certificates certificate.Store) (string, error) {
	id, err := certificate.ParseID(req.PathValue("id"))
	if err != nil {
		return "", err
	}
	return certificates.Certificate(req.Context(), id)
}

func certificateLocation(id certificate.ID) string {
	return manifest.BasePath + "/certificates/" + id.String()
}

// GetCertificateKeys answers GET /certificates/keys with the public keys that verify certificates, as
// a JWK set.
func GetCertificateKeys(gate *Gate, certificates certificate.Store) http.Handler {
	return gate.endpoint("get-certificate-keys", func(req *request) (*response, error) {
		set, err := certificate.Published(req.Context(), certificates)
		if err != nil {
			return nil, err
		}
		text, err := json.Marshal(set)
		if err != nil {
			return nil, fmt.Errorf("keys of certificates: %w", err)
		}
		return jsonResponse(http.StatusOK, &writer{b: text}), nil
	})
}
