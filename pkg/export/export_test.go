package export_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ocelot-audit/ocelot/pkg/export"
)

func TestVerify(t *testing.T) {
	good := []byte("0123456789")
	for name, test := range map[string]struct {
		body io.Reader
		size int64
		want error
	}{
		"good":              {bytes.NewReader(good), 10, nil},
		"byte by byte":      {iotest.OneByteReader(bytes.NewReader(good)), 10, nil},
		"end with the data": {iotest.DataErrReader(bytes.NewReader(good)), 10, nil},
		"shorter":           {bytes.NewReader(good[:9]), 10, export.ErrContent},
		"longer":            {strings.NewReader("0123456789+"), 10, export.ErrContent},
		"longer, by bytes":  {iotest.OneByteReader(strings.NewReader("0123456789+")), 10, export.ErrContent},
		"other":             {strings.NewReader("0123456780"), 10, export.ErrContent},
		"said to be longer": {bytes.NewReader(good), 11, export.ErrContent},
		"said to be empty":  {bytes.NewReader(good), 0, export.ErrContent},
		"broken":            {io.MultiReader(bytes.NewReader(good), iotest.ErrReader(io.ErrNoProgress)), 10, io.ErrNoProgress},
		"cut":               {io.MultiReader(bytes.NewReader(good[:5]), iotest.ErrReader(io.ErrUnexpectedEOF)), 10, io.ErrUnexpectedEOF},
	} {
		body := export.Verify(test.body, test.size, sha256.Sum256(good))
		got, err := io.ReadAll(body)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: got error %v, want %v", name, err, test.want)
		}
		if int64(len(got)) > test.size {
			t.Errorf("%s: got %d bytes, want at most %d", name, len(got), test.size)
		}
		if test.want == nil && !bytes.Equal(got, good) {
			t.Errorf("%s: read %q, want %q", name, got, good)
		}
		switch n, again := body.Read(make([]byte, 10)); {
		case n != 0:
			t.Errorf("%s: another read gives %d bytes, want none", name, n)
		case test.want == nil && again != io.EOF:
			t.Errorf("%s: another read gives error %v, want %v", name, again, io.EOF)
		case !errors.Is(again, test.want) && test.want != nil:
			t.Errorf("%s: another read gives error %v, want %v", name, again, test.want)
		}
	}
}

func TestVerifyIsAReader(t *testing.T) {
	content := bytes.Repeat([]byte("content"), 1000)
	if err := iotest.TestReader(export.Verify(bytes.NewReader(content), int64(len(content)), sha256.Sum256(content)), content); err != nil {
		t.Error(err)
	}
}
