package export

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

// Verify returns a reader of the body that ends with ErrContent instead of io.EOF if the
// body does not have the size and the SHA-256. It never returns more bytes than size.
func Verify(body io.Reader, size int64, sum [sha256.Size]byte) io.Reader {
	return &verifier{body: body, left: size, want: sum, hash: sha256.New()}
}

type verifier struct {
	body io.Reader
	left int64
	want [sha256.Size]byte
	hash hash.Hash
	err  error // the error that ended reading
}

func (v *verifier) Read(p []byte) (int, error) {
	if v.err != nil || len(p) == 0 {
		return 0, v.err
	}
	n, err := v.body.Read(p)
	if int64(n) > v.left {
		v.err = fmt.Errorf("longer than it should be: %w", ErrContent)
		return 0, v.err
	}
	v.left -= int64(n)
	_, _ = v.hash.Write(p[:n]) // never fails
	if errors.Is(err, io.EOF) {
		err = v.check()
	}
	v.err = err
	return n, err
}

func (v *verifier) check() error {
	if v.left > 0 {
		return fmt.Errorf("%d bytes short: %w", v.left, ErrContent)
	}
	if [sha256.Size]byte(v.hash.Sum(nil)) != v.want {
		return fmt.Errorf("another SHA-256: %w", ErrContent)
	}
	return io.EOF
}
