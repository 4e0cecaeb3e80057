package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/certificate"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

// certificateCmd reads and verifies certificates of erasures.
type certificateCmd struct {
	Get    certificateGetCmd    `cmd:"" help:"Print a certificate."`
	Keys   certificateKeysCmd   `cmd:"" help:"Print the public keys that verify certificates."`
	Verify certificateVerifyCmd `cmd:"" help:"Verify a certificate, and print what it says."`
}

// certificateKeysName stands in the place of a certificate's id.
const certificateKeysName = "keys"

// published returns what the service publishes under the name: a certificate, or the keys.
func (f *publicFlags) published(ctx context.Context, name string) (json.RawMessage, error) {
	service, err := f.open()
	if err != nil {
		return nil, err
	}
	return service.Read(ctx, "certificates/"+name, nil)
}

type certificateGetCmd struct {
	publicFlags
	ID string `arg:"" help:"Id of the certificate, or the path that its erasure shows."`
}

// Run prints the certificate.
func (c *certificateGetCmd) Run(ctx context.Context, con *console) error {
	id := c.ID[strings.LastIndexByte(c.ID, '/')+1:]
	answer, err := c.published(ctx, url.PathEscape(id))
	return printAnswer(con, answer, err)
}

type certificateKeysCmd struct{ publicFlags }

// Run prints the keys.
func (c *certificateKeysCmd) Run(ctx context.Context, con *console) error {
	answer, err := c.published(ctx, certificateKeysName)
	return printAnswer(con, answer, err)
}

// maxCertificate is more than a certificate or a set of keys has, in bytes.
const maxCertificate = 1 << 20

type certificateVerifyCmd struct {
	publicFlags
	File string `arg:"" optional:"" default:"-" help:"What ocelot certificate get printed, or the certificate alone; - is standard input."`
	Keys string `placeholder:"FILE" help:"What ocelot certificate keys printed. Without it, the service is asked."`
}

// Run verifies the certificate, and prints its statement.
func (c *certificateVerifyCmd) Run(ctx context.Context, con *console) error {
	text, err := readShort(con, c.File)
	if err != nil {
		return err
	}
	keys, err := c.keys(ctx, con)
	if err != nil {
		return err
	}
	statement, err := verifyCertificate(text, keys)
	return printAnswer(con, statement, err)
}

// verifyCertificate verifies what the service answers, or a certificate alone, and returns the signed
// statement. A statement that stands beside the certificate must be the signed one: people read it.
func verifyCertificate(text []byte, keys certificate.KeySet) (json.RawMessage, error) {
	text = bytes.TrimSpace(text)
	if !bytes.HasPrefix(text, []byte("{")) { // a certificate begins with base64
		return certificate.Verify(string(text), keys)
	}
	var answer struct {
		Statement   jsontext.Value `json:"statement"`
		Certificate string         `json:"certificate"`
	}
	if err := jsonv2.Unmarshal(text, &answer); err != nil { // it refuses a member that stands there twice
		return nil, fmt.Errorf("%w: the document is damaged: %w", certificate.ErrInvalid, err)
	}
	signed, err := certificate.Verify(answer.Certificate, keys)
	if err != nil || answer.Statement == nil {
		return signed, err
	}
	return signed, compareStatements(answer.Statement, signed)
}

// maxDifferences is how many differences an error names.
const maxDifferences = 5

// compareStatements returns an error that names where the shown statement differs from the signed one.
func compareStatements(shown jsontext.Value, signed json.RawMessage) error {
	if shown.Kind() != jsontext.KindBeginObject {
		return fmt.Errorf("%w: the statement beside it is no object", certificate.ErrInvalid)
	}
	if err := shown.Compact(); err != nil {
		return fmt.Errorf("%w: the statement beside it: %w", certificate.ErrInvalid, err)
	}
	paths, err := entryjson.Changed(audit.Object(shown), audit.Object(signed))
	if err != nil {
		return fmt.Errorf("%w: compare the statement beside it: %w", certificate.ErrInvalid, err)
	}
	if len(paths) > 0 {
		return fmt.Errorf("%w: the statement beside it was changed: it differs from the signed one at %q", certificate.ErrInvalid, paths[:min(len(paths), maxDifferences)])
	}
	return nil
}

// keys returns the keys of the file, or else of the service.
func (c *certificateVerifyCmd) keys(ctx context.Context, con *console) (set certificate.KeySet, err error) {
	var text []byte
	if c.Keys != "" {
		text, err = readShort(con, c.Keys)
	} else {
		text, err = c.published(ctx, certificateKeysName)
	}
	if err != nil {
		return set, err
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return set, fmt.Errorf("the keys are no JWK set: %w", err)
	}
	return set, nil
}

// readShort reads a file, or standard input if its name is "-".
func readShort(con *console, name string) ([]byte, error) {
	in := con.in
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, maxCertificate+1))
	if err == nil && len(text) > maxCertificate {
		err = fmt.Errorf("%s: has more than %d bytes", name, maxCertificate)
	}
	return text, err
}
