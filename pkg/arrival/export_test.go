package arrival

// WithWidth returns a reconciler that compares so many ids at once.
func WithWidth(r Reconciler, width int64) *Reconciler {
	r.width = width
	return &r
}
