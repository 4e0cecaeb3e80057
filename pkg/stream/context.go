package stream

import "context"

type connectionKey struct{}

// WithConnection returns a context with the id of the connection that a request opens.
func WithConnection(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, connectionKey{}, id)
}

// ConnectionFrom returns the id that WithConnection put into the context.
func ConnectionFrom(ctx context.Context) (id string, known bool) {
	id, known = ctx.Value(connectionKey{}).(string)
	return id, known
}
