package access

import (
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// RefusedError says why a credential is not valid. It is an audit.ErrUnauthenticated.
type RefusedError struct {
	// Detail is one sentence for the caller, which says what to do. It has no part of the credential.
	Detail string
	Err    error // for the log; nil: none
}

func (e *RefusedError) Error() string {
	if e.Err == nil {
		return e.Detail
	}
	return fmt.Sprintf("%s: %v", e.Detail, e.Err)
}

func (e *RefusedError) Unwrap() error { return audit.ErrUnauthenticated }

func refused(detail string) error { return &RefusedError{Detail: detail} }
