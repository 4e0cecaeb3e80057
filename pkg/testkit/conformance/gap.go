package conformance

import (
	"slices"
	"testing"
)

// Gap is something that an engine for tests does not do although the service
// that it stands for does. A case that needs it is not proven by that engine,
// and says so; it is proven by the other engines that run the suite.
type Gap string

// The gaps.
const (
	// SegmentsAreFiles is of versitygw 1.8.0, and of the folders of plain files.
	SegmentsAreFiles Gap = "the segments of a key are folders and files. No key can lie below another one, and no segment can have more than 255 bytes"
	// ContentOnly is of the folders of plain files, which other programs read.
	ContentOnly Gap = "a plain file keeps neither a media type nor a checksum beside the content"
	// NoAuthentication is of the KMS of ministack 1.5.33.
	NoAuthentication Gap = "ministack's KMS does not authenticate what it decrypts: what was altered or wrapped under another key unwraps to nonsense"
)

// needs skips the test if the engine has the gap.
func needs(t *testing.T, gaps []Gap, gap Gap) {
	t.Helper()
	if slices.Contains(gaps, gap) {
		t.Skipf("NOT PROVEN HERE: %s", gap)
	}
}
