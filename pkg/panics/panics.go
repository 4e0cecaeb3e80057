// Package panics turns panics into errors, so that one message or request fails alone.
package panics

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
)

// Recovered calls f and returns a panic of f as an error. It logs the panic's stack to
// slog.Default. Log and error have the type of the panic's value and not the value, which
// may contain entry content.
//
// A goroutine that handles a part of a batch must call it. A panic there would end the
// process and the work on all other parts.
func Recovered(ctx context.Context, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			slog.ErrorContext(ctx, "the function panicked", "panic", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
			err = fmt.Errorf("panic of type %T", v)
		}
	}()
	return f()
}
