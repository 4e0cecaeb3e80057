package protect

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Destruction knows which keys were destroyed; see Keyring.
type Destruction interface {
	// Destroyed returns which of the keys of subjects were destroyed before the call.
	Destroyed(ctx context.Context, tenant audit.TenantID, refs []KeyRef) (map[KeyRef]bool, error)
}

// DropErasedTokens removes the tokens of values whose keys were destroyed from the entries, so that a
// message that comes after an erasure brings none back. It makes no call if the entries have no token of
// a subject's value.
func DropErasedTokens(ctx context.Context, keys Destruction, tenant audit.TenantID, entries []audit.Entry) error {
	refs := map[KeyRef]bool{}
	eachWithTokens(entries, func(e *audit.Encrypted, ref KeyRef) { refs[ref] = true })
	if len(refs) == 0 {
		return nil
	}
	destroyed, err := keys.Destroyed(ctx, tenant, slices.Collect(maps.Keys(refs)))
	if err != nil {
		return fmt.Errorf("drop tokens of erased values: %w", err)
	}
	eachWithTokens(entries, func(e *audit.Encrypted, ref KeyRef) {
		if destroyed[ref] {
			e.Tokens = nil
		}
	})
	return nil
}

// DropTokens removes the tokens beside what a key encrypted from an entry. It reports whether there
// were any.
func DropTokens(e *audit.Entry, key KeyRef) (dropped bool) {
	for i := range e.Encrypted {
		part := &e.Encrypted[i]
		if ref, err := RefOf(part); err == nil && ref == key && len(part.Tokens) > 0 {
			part.Tokens, dropped = nil, true
		}
	}
	return dropped
}

// eachWithTokens calls do with the elements that have tokens, and the keys of their subjects. The
// tenant's own key is destroyed with the tenant alone.
func eachWithTokens(entries []audit.Entry, do func(e *audit.Encrypted, ref KeyRef)) {
	for i := range entries {
		for j := range entries[i].Encrypted {
			e := &entries[i].Encrypted[j]
			if len(e.Tokens) == 0 {
				continue
			}
			if ref, err := RefOf(e); err == nil && ref.Subject != RootRef.Subject {
				do(e, ref)
			}
		}
	}
}
