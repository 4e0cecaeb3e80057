// Package kmskeys wraps keys with a key of AWS KMS. The encryption context is the
// tenant, so that KMS refuses to unwrap a key for another tenant, and records the
// tenant in CloudTrail.
package kmskeys

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// Wrapper is one symmetric key of KMS. It implements protect.KeyWrapper. The form of its calls is
// that of the AWS Key Management Service API Reference.
type Wrapper struct {
	service *awsconfig.JSONService
	keyID   string
}

// New returns the wrapper of a key, given by its id, ARN or alias. It makes no call. It repeats calls
// that KMS throttles, which has a quota for each second, or that fail transiently, within 3.4 s on
// average.
func New(cfg aws.Config, keyID string) *Wrapper {
	return &Wrapper{keyID: keyID, service: &awsconfig.JSONService{
		Config: awsconfig.WithClient(cfg), ID: "KMS", Name: "kms", Target: "TrentService", Tries: 8, Timeout: 5 * time.Second,
	}}
}

// input is what the calls take. Bytes are in base64.
type input struct {
	KeyID             string            `json:"KeyId"`
	Plaintext         []byte            `json:",omitempty"`
	CiphertextBlob    []byte            `json:",omitempty"`
	EncryptionContext map[string]string `json:",omitempty"`
}

func (w *Wrapper) call(ctx context.Context, action string, in input, out any) error {
	in.KeyID = w.keyID
	return w.service.Call(ctx, w.service.Config.Region, action, in, out)
}

// encryptionContext binds a wrapped key to the tenant.
func encryptionContext(tenant audit.TenantID) map[string]string {
	return map[string]string{"tenant": string(tenant)}
}

// Ping returns nil if KMS answers for the key and the key can be used.
func (w *Wrapper) Ping(ctx context.Context) error {
	var described struct{ KeyMetadata struct{ Enabled bool } }
	err := w.call(ctx, "DescribeKey", input{}, &described)
	if err == nil && !described.KeyMetadata.Enabled {
		err = protect.ErrMasterKey
	}
	return w.failure(ctx, "describe", err)
}

// Wrap implements protect.KeyWrapper.
func (w *Wrapper) Wrap(ctx context.Context, tenant audit.TenantID, key []byte) ([]byte, error) {
	if err := protect.CheckKey(tenant, key); err != nil {
		return nil, fmt.Errorf("wrap a key: %w", err)
	}
	var answer struct{ CiphertextBlob []byte }
	if err := w.call(ctx, "Encrypt", input{Plaintext: key, EncryptionContext: encryptionContext(tenant)}, &answer); err != nil {
		return nil, w.failure(ctx, "wrap for "+string(tenant)+" with", err)
	}
	return answer.CiphertextBlob, nil
}

// Unwrap implements protect.KeyWrapper.
func (w *Wrapper) Unwrap(ctx context.Context, tenant audit.TenantID, wrapped []byte) ([]byte, error) {
	verb := "unwrap for " + string(tenant) + " with"
	if len(wrapped) == 0 { // KMS refuses such a call
		return nil, w.failure(ctx, verb, protect.ErrWrapped)
	}
	// With KeyId, KMS refuses what another of its keys wrapped.
	var answer struct{ Plaintext []byte }
	if err := w.call(ctx, "Decrypt", input{CiphertextBlob: wrapped, EncryptionContext: encryptionContext(tenant)}, &answer); err != nil {
		return nil, w.failure(ctx, verb, err)
	}
	return answer.Plaintext, nil
}

// failure returns the error to report for a call. It returns nil if err is nil.
func (w *Wrapper) failure(ctx context.Context, verb string, err error) error {
	if err == nil {
		return nil
	}
	var failed *awsconfig.CallError
	if errors.As(err, &failed) {
		switch failed.Code {
		case "InvalidCiphertextException", "IncorrectKeyException":
			err = protect.ErrWrapped
		case "DisabledException", "KMSInvalidStateException", "NotFoundException": // the second: pending deletion, or without key material
			err = fmt.Errorf("%w: %w", protect.ErrMasterKey, err)
		}
	}
	return fmt.Errorf("%s KMS key %s: %w", verb, w.keyID, awsconfig.Failure(ctx, err))
}
