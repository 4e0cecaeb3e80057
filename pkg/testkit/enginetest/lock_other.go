//go:build !unix

package enginetest

import (
	"context"
	"errors"
)

// lock returns an error: engines are started on Unix systems only.
func lock(context.Context, string) (unlock func(), err error) {
	return nil, errors.ErrUnsupported
}
