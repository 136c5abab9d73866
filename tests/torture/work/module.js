import {two} from "/mod/two.js"; fetch("/work/module.txt").then(r => r.text()).then(t => postMessage(t + two))
