//go:build race

package virtiotest

const raceDetector = 1 // the program is built with it
