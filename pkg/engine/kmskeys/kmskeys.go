// Package kmskeys wraps keys with a key of AWS KMS. The encryption context is the
// tenant, so that KMS refuses to unwrap a key for another tenant, and records the
// tenant in CloudTrail.
package kmskeys

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// maxAttempts is the most attempts of one call by the SDK, within 3.4 s on average.
// KMS has a quota for each second.
const maxAttempts = 8

// NewClient returns a client of KMS for any number of keys. It retries calls that
// KMS throttles or that fail transiently.
func NewClient(cfg aws.Config) *kms.Client {
	return kms.NewFromConfig(awsconfig.WithClient(cfg), func(o *kms.Options) { o.Retryer = awsconfig.Retryer(maxAttempts) })
}

// Wrapper is one symmetric key of KMS. It implements protect.KeyWrapper.
type Wrapper struct {
	client *kms.Client
	keyID  string
}

// New returns the wrapper of a key, given by its id, ARN or alias. It makes no call.
func New(client *kms.Client, keyID string) *Wrapper { return &Wrapper{client: client, keyID: keyID} }

// encryptionContext binds a wrapped key to the tenant.
func encryptionContext(tenant audit.TenantID) map[string]string {
	return map[string]string{"tenant": string(tenant)}
}

// Ping returns nil if KMS answers for the key and the key can be used.
func (w *Wrapper) Ping(ctx context.Context) error {
	described, err := w.client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &w.keyID})
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
	answer, err := w.client.Encrypt(ctx, &kms.EncryptInput{KeyId: &w.keyID, Plaintext: key, EncryptionContext: encryptionContext(tenant)})
	if err != nil {
		return nil, w.failure(ctx, "wrap for "+string(tenant)+" with", err)
	}
	return answer.CiphertextBlob, nil
}

// Unwrap implements protect.KeyWrapper.
func (w *Wrapper) Unwrap(ctx context.Context, tenant audit.TenantID, wrapped []byte) ([]byte, error) {
	verb := "unwrap for " + string(tenant) + " with"
	if len(wrapped) == 0 { // the SDK refuses such a call
		return nil, w.failure(ctx, verb, protect.ErrWrapped)
	}
	// With KeyId, KMS refuses what another of its keys wrapped.
	answer, err := w.client.Decrypt(ctx, &kms.DecryptInput{KeyId: &w.keyID, CiphertextBlob: wrapped, EncryptionContext: encryptionContext(tenant)})
	if err != nil {
		return nil, w.failure(ctx, verb, err)
	}
	return answer.Plaintext, nil
}

// failure returns the error to report for a call. It returns nil if err is nil.
func (w *Wrapper) failure(ctx context.Context, verb string, err error) error {
	if err == nil {
		return nil
	}
	var invalid *types.InvalidCiphertextException
	var foreign *types.IncorrectKeyException
	var disabled *types.DisabledException
	var state *types.KMSInvalidStateException // pending deletion, or without key material
	var missing *types.NotFoundException
	switch {
	case errors.As(err, &invalid), errors.As(err, &foreign):
		err = protect.ErrWrapped
	case errors.As(err, &disabled), errors.As(err, &state), errors.As(err, &missing):
		err = fmt.Errorf("%w: %w", protect.ErrMasterKey, err)
	}
	return fmt.Errorf("%s KMS key %s: %w", verb, w.keyID, awsconfig.Failure(ctx, err))
}
