// Package kmskeys wraps keys under a key of AWS KMS, with the tenant as
// encryption context: KMS itself refuses to unwrap a key for another tenant, and
// writes the tenant into CloudTrail.
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

// callTries is of one call, by the SDK: within 3.4 s on average. KMS throttles by
// the second.
const callTries = 8

// NewClient returns a client of KMS for any number of keys. A call that is
// throttled, or fails for another reason that may pass, is repeated a few times.
func NewClient(cfg aws.Config) *kms.Client {
	return kms.NewFromConfig(awsconfig.WithClient(cfg), func(o *kms.Options) { o.Retryer = awsconfig.Retryer(callTries) })
}

// Wrapper is one symmetric key of KMS. It implements protect.KeyWrapper.
type Wrapper struct {
	client *kms.Client
	keyID  string
}

// New returns the wrapper of a key, by its id, its ARN or an alias. Nothing is
// called until its first method is.
func New(client *kms.Client, keyID string) *Wrapper { return &Wrapper{client: client, keyID: keyID} }

// encryptionContext binds what is wrapped to the tenant.
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
	if len(wrapped) == 0 { // the SDK would not ask
		return nil, w.failure(ctx, verb, protect.ErrWrapped)
	}
	// The key is named so that nothing is accepted that another key wrapped.
	answer, err := w.client.Decrypt(ctx, &kms.DecryptInput{KeyId: &w.keyID, CiphertextBlob: wrapped, EncryptionContext: encryptionContext(tenant)})
	if err != nil {
		return nil, w.failure(ctx, verb, err)
	}
	return answer.Plaintext, nil
}

// failure returns what is reported of a call, nil where it did not fail.
func (w *Wrapper) failure(ctx context.Context, verb string, err error) error {
	if err == nil {
		return nil
	}
	var invalid *types.InvalidCiphertextException
	var foreign *types.IncorrectKeyException
	var disabled *types.DisabledException
	var state *types.KMSInvalidStateException // about to be deleted, or without its material
	var gone *types.NotFoundException
	switch {
	case errors.As(err, &invalid), errors.As(err, &foreign):
		err = protect.ErrWrapped
	case errors.As(err, &disabled), errors.As(err, &state), errors.As(err, &gone):
		err = fmt.Errorf("%w: %w", protect.ErrMasterKey, err)
	}
	return fmt.Errorf("%s KMS key %s: %w", verb, w.keyID, awsconfig.Failure(ctx, err))
}
