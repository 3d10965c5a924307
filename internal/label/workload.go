package label

import "regexp"

// What Kubernetes appends to the name of a workload to name its pods: a Deployment's ReplicaSet a
// hash and five characters, a DaemonSet or Job five characters, a StatefulSet a number. They are of
// the alphabet of apimachinery's rand.String(), which has no vowels, so few words look like them.
var podSuffix = regexp.MustCompile(`(-[bcdfghjklmnpqrstvwxz2456789]{6,10})?-[bcdfghjklmnpqrstvwxz2456789]{5}$|-[0-9]+$`)

// Workload is what made the pod of that name, as far as the name tells: a guess, because no file
// says it. A pod that nothing made has its own name.
func Workload(pod string) string {
	if found := podSuffix.FindStringIndex(pod); found != nil && found[0] > 0 {
		return pod[:found[0]]
	}
	return pod
}
