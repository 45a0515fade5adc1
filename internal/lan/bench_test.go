package lan

import "testing"

// BenchmarkSend sends large segments to a station that reads, with a window of 1 MiB, so that none
// is dropped.
func BenchmarkSend(b *testing.B) {
	dir := b.TempDir() + "/net"
	got := make(chan struct{}, 1<<20)
	cfg, _ := config(b, dir, 1)
	cfg.Receive = func(Card, []byte) { got <- struct{}{} }
	to, err := Join(cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer to.Close()
	from, _ := join(b, dir, 2)
	frame := make([]byte, 65000)
	b.SetBytes(int64(len(frame)))
	waiting := 0
	for b.Loop() {
		from.Send(to.MAC, frame[:54], frame[54:])
		if waiting++; waiting == 16 { // window full
			for ; waiting > 0; waiting-- {
				<-got
			}
		}
	}
}
