package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/certificate"
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
	statement, err := certificate.Verify(certificateIn(text), keys)
	return printAnswer(con, statement, err)
}

// certificateIn returns the certificate in what the service answers, or the text itself.
func certificateIn(text []byte) string {
	var answer struct{ Certificate string }
	if json.Unmarshal(text, &answer) == nil {
		return answer.Certificate
	}
	return strings.TrimSpace(string(text))
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
