package diskimage

import "testing"

func TestHasFlock(t *testing.T) {
	for info, want := range map[string]bool{
		"pos:\t0\nflags:\t02100002\nlock:\t1: FLOCK  ADVISORY  WRITE 3937 08:01:1966 0 EOF\n":                true,
		"pos:\t0\nlock:\t1: POSIX  ADVISORY  WRITE 3937 08:01:1966 0 EOF\nlock:\t2: FLOCK  ADVISORY  READ\n": true,
		"lock:\t1: POSIX  ADVISORY  WRITE 3937 08:01:1966 0 EOF\n":                                           false,
		"pos:\t0\nmnt_id:\t22\n": false,
		"lock:\t1:\nlock:":       false,
	} {
		if got := hasFlock(info); got != want {
			t.Errorf("%q: %v, want %v", info, got, want)
		}
	}
}
