package kernel

import (
	"fmt"
	"testing"
)

// BenchmarkFind measures how long a start takes to find its kernel among 20.
func BenchmarkFind(b *testing.B) {
	s := newStore(b)
	for i := range 20 {
		mustImport(b, s, image(b, fmt.Sprintf("6.12.%d-cloud-amd64", i)), ImportOptions{Default: i == 7})
	}
	for _, name := range []string{"", "6.12.5-cloud-amd64"} {
		b.Run("name="+name, func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Find(name); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
