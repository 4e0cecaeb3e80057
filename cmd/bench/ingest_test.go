package main

import (
	"encoding/json"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
)

// The benchmarks are the two sides of the ingest figures, for profiles.

func BenchmarkIngestBulk(b *testing.B) {
	s, err := newSender(b.Context(), httpapi.CreateLogsBulk(gate(), acceptInto(queue(func([]string) {})), unlimited()), "/logs/bulk")
	if err != nil {
		b.Fatal(err)
	}
	benchmarkSend(b, s, newCorpus(1).bulk())
}

func BenchmarkIngestBulkEncrypted(b *testing.B) {
	for name, rules := range map[string][]audit.SensitiveField{"user": userRules(), "mixed": mixedRules()} {
		b.Run(name, func(b *testing.B) {
			into, keys, err := encryptInto(b.Context(), b.TempDir(), queue(func([]string) {}))
			if err != nil {
				b.Fatal(err)
			}
			defer func() {
				if err := keys.Close(); err != nil {
					b.Error(err)
				}
			}()
			s, err := newSender(b.Context(), httpapi.CreateLogsBulk(gate(rules...), into, unlimited()), "/logs/bulk")
			if err != nil {
				b.Fatal(err)
			}
			benchmarkSend(b, s, newCorpus(1).bulk())
		})
	}
}

func BenchmarkIngestSingle(b *testing.B) {
	s, err := newSender(b.Context(), httpapi.CreateLog(gate(), acceptInto(queue(func([]string) {})), unlimited()), "/logs")
	if err != nil {
		b.Fatal(err)
	}
	benchmarkSend(b, s, newCorpus(1).entry())
}

func benchmarkSend(b *testing.B, s *sender, body []byte) {
	b.Helper()
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if err := s.send(body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	body := newCorpus(1).entry()
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if err := json.Unmarshal(body, new(decoded)); err != nil {
			b.Fatal(err)
		}
	}
}
