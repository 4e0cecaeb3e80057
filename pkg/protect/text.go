package protect

import (
	"context"
	"errors"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// textVersion is the first byte of a sealed text. A random nonce and the ciphertext follow.
const textVersion = 1

// SealText encrypts a text that a record of the tenant has to keep, such as the filters of a job, whose
// values can be those of encrypted fields. OpenText takes it for the same tenant and place alone.
func (k *Keyring) SealText(ctx context.Context, tenant audit.TenantID, place string, text []byte) ([]byte, error) {
	keys, err := k.Tenant(ctx, tenant)
	if err != nil {
		return nil, err
	}
	return keys.texts.Seal([]byte{textVersion}, nil, text, textContext(tenant, place)), nil
}

// OpenText returns the text that SealText was given. It returns ErrDestroyed after the tenant's
// deletion, and ErrUnreadable if the text was sealed for another place or was altered.
func (k *Keyring) OpenText(ctx context.Context, tenant audit.TenantID, place string, sealed []byte) ([]byte, error) {
	failed := fmt.Errorf("the text of %s of %s: %w", place, tenant, ErrUnreadable)
	if len(sealed) == 0 || sealed[0] != textVersion {
		return nil, failed
	}
	keys, err := k.Existing(ctx, tenant)
	if errors.Is(err, audit.ErrNotFound) {
		return nil, failed
	}
	if err != nil {
		return nil, err
	}
	text, err := keys.texts.Open(nil, nil, sealed[1:], textContext(tenant, place))
	if err != nil {
		return nil, failed
	}
	return text, nil
}

func textContext(tenant audit.TenantID, place string) []byte {
	return appendPart(appendPart(appendPart(nil, "ocelot text"), string(tenant)), place)
}
