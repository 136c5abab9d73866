fetch("/work/inner.txt").then(r => r.text()).then(postMessage)
