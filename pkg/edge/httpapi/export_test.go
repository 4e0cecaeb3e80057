package httpapi

// The limits of the bodies of all requests, for the tests of package httpapi_test.
const (
	MaxUnpackedAtOnce = maxUnpackedAtOnce
	MaxLargeAtOnce    = maxLargeAtOnce
	BodyWait          = bodyWait
)

// HasBodies reports whether room is reserved for bodies.
func (g *Gate) HasBodies() bool {
	m := g.bodies.ready()
	if !m.unpacked.TryAcquire(maxUnpackedAtOnce) {
		return true
	}
	m.unpacked.Release(maxUnpackedAtOnce)
	if !m.large.TryAcquire(maxLargeAtOnce) {
		return true
	}
	m.large.Release(maxLargeAtOnce)
	return false
}
