"""The papers behind the methods, as BibTeX entries."""

ALL_IN_ONE = """\
@inproceedings{miao-etal-2023-allinone,
  title     = {Exploring All-In-One Knowledge Distillation Framework for Neural Machine Translation},
  author    = {Miao, Zhongjian and Zhang, Wen and Su, Jinsong and Li, Xiang and Luan, Jian and Chen, Yidong and Wang, Bin and \
Zhang, Min},
  booktitle = {Proceedings of EMNLP},
  year      = {2023}
}"""

PARETO_MUTUAL = """\
@inproceedings{huang-etal-2023-pareto,
  title     = {Towards Higher Pareto Frontier in Multilingual Machine Translation},
  author    = {Huang, Yichong and Feng, Xiaocheng and Geng, Xinwei and Li, Baohang and Qin, Bing},
  booktitle = {Proceedings of ACL},
  year      = {2023}
}"""

PACKAGE = (ALL_IN_ONE, PARETO_MUTUAL)  # what every model made here is asked to cite
